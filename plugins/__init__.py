"""The bundled plugins: loaded by entry point like a stranger's, and importing nothing but ``proxy``."""
