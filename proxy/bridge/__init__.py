"""The way over for completions whose upstream only speaks chat: one call in, chats out, one answer back."""
