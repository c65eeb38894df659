"""The API's own description, made from what is served: OpenAPI of the routes, AsyncAPI of realtime, a page to read."""
