#!/bin/sh
# Makes secrets/ for compose.yaml: random passwords, and the key of the provider, which is asked for.
# What is there already stays: run it again after you removed a file.
set -eu
cd "$(dirname "$0")"
umask 022 # the containers' users read them; the folder keeps others on this machine out
mkdir -p -m 0711 secrets
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
write() { [ -e "secrets/$1" ] || printf '%s' "$2" > "secrets/$1"; }

write pepper "$(random)$(random)"
write database_password "$(random)"
write database_url "postgresql://outgate:$(cat secrets/database_password)@database/outgate"
if [ ! -e secrets/redis_url ]; then
  password=$(random)
  printf 'requirepass %s\nsave ""\nappendonly no\n' "$password" > secrets/redis.conf
  printf 'redis://:%s@redis:6379/0' "$password" > secrets/redis_url
fi
if [ ! -e secrets/openai_api_key ]; then
  printf 'Key of your provider (OpenAI): ' >&2
  stty -echo 2>/dev/null || true
  read -r key
  stty echo 2>/dev/null || true
  printf '\n' >&2
  write openai_api_key "$key"
fi
