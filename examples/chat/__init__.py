"""A chat: people sign up, talk in rooms, and see each other's messages at once. `python -m examples.chat` runs it."""
