"""HTTP: server and middleware, the API, the console, and the endpoints' link."""
