"""Public datasets by name: cards, fetching, checking, loading, and what the command line says of them.

Decided: plain downloads and our own readers, none of the field's loaders. PyG's (ModelNet, ShapeNet, S3DIS) cost 9 s at
import; `genomic_benchmarks` numbers classes in the order of a directory listing; aeon brings numba, to read what
`read_ts` reads; Hugging Face `datasets` would come for two Parquet files that pyarrow reads alone.

Every file can come from one place of your own: `$TOKRED_DATA_MIRROR` (a server, or a folder as file:// URL) replaces
every public address by MIRROR/<family>/<file name>, for machines behind a firewall.
"""

from tokred_sci.datasets.public.card import Baseline, Card, Citation, File
from tokred_sci.datasets.public.catalog import cards, fetch_set, find, load, verify
from tokred_sci.datasets.public.text import cards_markdown, fetch_text, info_text, list_text, verify_text

__all__ = [
    "Baseline",
    "Card",
    "Citation",
    "File",
    "cards",
    "cards_markdown",
    "fetch_set",
    "fetch_text",
    "find",
    "info_text",
    "list_text",
    "load",
    "verify",
    "verify_text",
]
