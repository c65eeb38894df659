"""How committed changes are announced to the hubs that may want them. An announcement may be lost; the log repairs it."""
