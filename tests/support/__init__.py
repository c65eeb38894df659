"""What tests share: real servers, Node and a real browser, and how they get here."""
