"""How nodes tell each other what they committed. A hint, never the truth: the log is read whenever one is missing."""
