import numpy as np
import pytest

from examples.gpt2 import data
from examples.gpt2.tokenizer import (
    END,
    byte_level,
    check_vocabulary,
    encode,
    load_tokenizer,
)

TOKENS = np.arange(1, 44, dtype=np.int32)
BLOCKS = data.Blocks(TOKENS, 5)


def targets(rows):
    """What the losses that count are about."""
    return [
        token
        for row in rows
        for token, weight in zip(row["tokens"][1:], row["weights"], strict=True)
        if weight
    ]


def rows_of(batch):
    rows = zip(*batch.values(), strict=True)
    return [dict(zip(batch, row, strict=True)) for row in rows]


def test_every_token_but_the_first_is_predicted_once_from_its_predecessor():
    rows = [BLOCKS[i] for i in range(len(BLOCKS))]
    assert targets(rows) == TOKENS[1:].tolist()
    for row in rows:
        real = row["tokens"][row["tokens"] > 0]
        np.testing.assert_array_equal(np.diff(real), 1)
        assert row["weights"].sum() == len(real) - 1


def test_the_last_batch_is_filled_up_with_rows_that_weigh_nothing():
    batches = list(data.all_batches(BLOCKS, 4))
    assert {batch["tokens"].shape for batch in batches} == {(4, 6)}
    told = [token for batch in batches for token in targets(rows_of(batch))]
    assert told == TOKENS[1:].tolist()


def test_epochs_are_whole_shuffled_and_repeatable():
    def epochs(seed):
        batches, per_epoch = data.training_batches(BLOCKS, 3, 2, seed)
        assert per_epoch == 3
        rows = [row for batch in batches for row in rows_of(batch)]
        return [
            tuple(int(row["tokens"][0]) for row in half)
            for half in (rows[:9], rows[9:])
        ]

    first, second = epochs(0)
    assert len(set(first)) == len(set(second)) == 9
    assert first != second
    assert first != tuple(sorted(first))
    assert epochs(0) == [first, second]
    assert epochs(1) != [first, second]


@pytest.mark.parametrize("taken", [0, 1, 4, 5])
def test_a_position_can_be_saved_and_restored(taken):
    batches, _ = data.training_batches(BLOCKS, 3, 2, seed=0)
    for _ in range(taken):
        next(batches)
    position = batches.get_state()
    rest = [batch["tokens"] for batch in batches]
    again, _ = data.training_batches(BLOCKS, 3, 2, seed=0)
    again.set_state(position)
    np.testing.assert_array_equal([batch["tokens"] for batch in again], rest)
    assert len(rest) == 6 - taken


def test_less_than_a_batch_is_too_little():
    with pytest.raises(ValueError, match="9 blocks of 5 tokens, less than one batch"):
        data.training_batches(BLOCKS, 10, 1, seed=0)


def test_digests_tell_texts_apart():
    assert BLOCKS.digest() == data.Blocks(TOKENS.copy(), 7).digest()
    assert BLOCKS.digest() != data.Blocks(TOKENS[:-1], 5).digest()


def test_the_bundled_text_is_split_by_topic():
    texts = data.python_topics()
    assert not set(texts.train) & set(texts.valid)
    assert sum(map(len, texts.train)) > 300_000
    assert sum(map(len, texts.valid)) > 10_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "holds no text"),
        (b" \n\n ", "holds no text"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_bad_text_files(tmp_path, content, message):
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("text")
    if content is not None:
        bad.write_bytes(content)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            data.text_files(*pair)
        assert str(bad) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # of `datasets` and what it imports
def test_wikitext_comes_through_datasets(monkeypatch):
    datasets = pytest.importorskip("datasets")
    rows = {"train": ["", " = A = \n", " b\n"], "validation": ["c\n"], "test": ["d"]}
    splits = {k: datasets.Dataset.from_dict({"text": v}) for k, v in rows.items()}

    def load(*name):
        assert name == ("Salesforce/wikitext", "wikitext-2-raw-v1")
        return splits

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert data.wikitext() == ([" = A = \n b\n"], ["c\n"])

    def refuse(*name):
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(FileNotFoundError, match="wikitext cannot be had: no network$"):
        data.wikitext()


def test_bytes_survive_the_tokenizer():
    tokenizer = byte_level()
    text = "Héllo, wörld!\n\n  two  spaces 'll 日本\x00"
    tokens = encode(tokenizer, [text, "b"])
    assert len(tokens) == len(text.encode()) + 3
    assert tokens[-1] == tokenizer.token_to_id(END) == 256
    assert tokenizer.decode(tokens[:-3].tolist()) == text


def test_tokenizers_of_checkpoint_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json, nor vocab\.json"):
        load_tokenizer(tmp_path)
    tokenizer = byte_level()
    tokenizer.model.save(str(tmp_path))
    tokens = encode(tokenizer, ["some text"])
    np.testing.assert_array_equal(
        encode(load_tokenizer(tmp_path), ["some text"]), tokens
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    np.testing.assert_array_equal(
        encode(load_tokenizer(tmp_path), ["some text"]), tokens
    )
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_that_does_not_fit():
    check_vocabulary(byte_level(), 257)
    with pytest.raises(ValueError, match="257 tokens, the model's vocabulary 256"):
        check_vocabulary(byte_level(), 256)
