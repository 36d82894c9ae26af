"""A checkpoint answers over HTTP: scheduling, an OpenAI-compatible API, and a page to try it on."""
