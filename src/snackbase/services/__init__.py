"""What the API does, behind every transport: accounts, collections, records."""
