"""Who may see what, over the whole server: lists against an independent reading of the rules, frames byte by byte."""
