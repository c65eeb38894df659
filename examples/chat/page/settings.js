// Where SnackBase is, as "http://127.0.0.1:8000". Empty: where this page came from, as behind a proxy.
// `python -m examples.chat` answers with its own instead of this file.
export const server = "";
