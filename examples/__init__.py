"""Things to try: `python -m examples.demo`, and the static page in `quickstart/`."""
