"""The WSGI application: ``gunicorn wsgi:app`` or ``flask --app wsgi run``; OUTGATE_CONFIG names the file."""

from proxy.app import app_from_environment

app = app_from_environment()
