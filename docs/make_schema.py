"""Write the JSON Schema of configurations, for the package and for editors: python docs/make_schema.py"""

import json
from pathlib import Path

from clipmill.pipelines.config_schema import SCHEMA_FILE, config_schema

PUBLISHED = Path(__file__).parent / "clipmill.schema.json"


def texts() -> dict[Path, str]:
    """Return the text of each file: one to read, and one that is small."""
    made = config_schema()
    return {
        PUBLISHED: json.dumps(made, indent=1, ensure_ascii=False) + "\n",
        SCHEMA_FILE: json.dumps(made, separators=(",", ":"), ensure_ascii=False) + "\n",
    }


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
