"""A program written for Portkey, with a config from a file or the id of one that the operator listed.

python program.py configs/fallback.json
python program.py pc-fallback
"""

import json
import os
import sys
from pathlib import Path

from portkey_ai import Portkey

wanted = sys.argv[1]
client = Portkey(
    base_url=os.environ["OUTGATE_URL"],  # http://localhost:8787/v1 before
    api_key=os.environ["PROGRAM_KEY"],
    config=json.loads(Path(wanted).read_text()) if wanted.endswith(".json") else wanted,
    metadata={"plan": "paid"},
)
answer = client.chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "Say hello."}]
)
headers = answer.get_headers()
print(headers["last-used-option-index"], headers["provider"], headers["retry-attempt-count"])
print(answer.choices[0].message.content)
