"""Statistics of the mined partners of the embedded training pairs -> partners.json: hubs, siblings, distinct rows.

python experiments/does_it_help/partners.py SHARDS_INDEX HARD_PAIRS...      # folders below artifacts/emoji
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # also from a checkout that is not installed

from helip.artifacts.atomic import write_json
from helip.artifacts.hard_pairs import HardPairIndex
from helip.artifacts.shards import ShardIndex
from helip.data.reader import SampleReader

HERE, K = Path(__file__).parent, 20


def describe(index: HardPairIndex, texts: dict[int, str], subgroups: dict[int, str], concepts: dict[int, str]) -> dict:
    """Shares over all (target, partner) slots of the first K."""
    rows = np.asarray(index.rows[:, :K])
    pairs = [(int(target), int(partner)) for target in texts for partner in rows[target] if partner >= 0]
    chosen = np.sort(np.bincount([partner for _, partner in pairs], minlength=len(rows)))[::-1]
    trained = len(texts)
    words = {row: set(text.lower().replace(":", " ").replace(",", " ").split()) for row, text in texts.items()}
    near = [len(words[a] ^ words[b]) <= 2 for a, b in pairs]
    return {
        "targets": len({target for target, _ in pairs}),
        "slots": len(pairs),
        "share_same_concept": round(float(np.mean([concepts[a] == concepts[b] for a, b in pairs])), 4),
        "share_same_subgroup": round(float(np.mean([subgroups[a] == subgroups[b] for a, b in pairs])), 4),
        "share_captions_differ_in_at_most_one_word_each": round(float(np.mean(near)), 4),
        "share_of_slots_of_the_most_chosen_1_percent": round(float(chosen[: trained // 100].sum() / len(pairs)), 4),
        "most_often_chosen": int(chosen[0]),
        "share_never_chosen": round(float(1 - (chosen > 0).sum() / trained), 4),
        "median_score": round(float(np.median(index.scores[:, :K][rows >= 0])), 4),
    }


def main() -> None:
    shards, *folders = (Path(argument) for argument in sys.argv[1:])
    index = ShardIndex.load(shards)
    reader = SampleReader(index)
    train = [row for row in index.rows_of("0:11") if index.valid[row]]
    texts = {row: reader.captions(row)[0] for row in train}
    about = {row: reader.metadata(row) for row in train}
    found = {}
    for folder in folders:
        mined = HardPairIndex.load(folder)
        fields = [{row: str(about[row][name]) for row in train} for name in ("subgroup", "hexcode")]
        found[mined.meta["settings"]["score"]] = describe(mined, texts, *fields)
    write_json(HERE / "partners.json", found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
