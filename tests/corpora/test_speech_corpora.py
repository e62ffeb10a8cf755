"""AISHELL-1 and AISHELL-2 in miniature: folders, archives as they come, and what goes wrong in them."""

import os

import pytest
from raw_corpora import aishell1, aishell2, converted, tar, wav, write, zipped

from xllm.manifest import iterate_manifest
from xllm.media import load_audio

TRANSCRIPT = "data_aishell/transcript/aishell_transcript_v0.8.txt"
ALL = ("train", "dev", "test")


def test_aishell1(tmp_path):
    aishell1(tmp_path / "raw")
    train = converted("aishell-1", tmp_path / "raw", tmp_path / "out", "train")
    assert train.rows == [
        {
            "id": "BAC009S0002W0120",
            "speech": "../raw/data_aishell/wav/train/S0002/BAC009S0002W0120.wav",
            "response": "你好世界一",
            "source": "aishell-1",
            "duration": 0.1,
        },
        {
            "id": "BAC009S0003W0121",
            "speech": "../raw/data_aishell/wav/train/S0003/BAC009S0003W0121.wav",
            "response": "你好世界二",
            "source": "aishell-1",
            "duration": 0.11,
        },
    ]
    for split, words in (("dev", "你好世界三"), ("test", "你好世界四")):
        result = converted("aishell-1", tmp_path / "raw", tmp_path / "out", split)
        assert [row["response"] for row in result.rows] == [words] and not result.dropped
    (sample, _) = iterate_manifest(tmp_path / "out" / "train.jsonl")
    assert load_audio(sample["speech"]).shape == (1600,)


def as_it_comes(raw, source):
    """data_aishell.tgz with a tar.gz of each speaker in wav/."""
    wavs = source / "data_aishell" / "wav"
    for split in ALL:
        for speaker in sorted((wavs / split).iterdir()):
            tar(wavs / f"{speaker.name}.tar.gz", wavs, [f"{split}/{speaker.name}"], "w:gz")
            for path in speaker.iterdir():
                path.unlink()
            speaker.rmdir()
        (wavs / split).rmdir()
    return tar(raw / "data_aishell.tgz", source, mode="w:gz")


def test_aishell1_as_it_comes(tmp_path):
    loose = [converted("aishell-1", aishell1(tmp_path / "loose"), tmp_path / "out0", split).contents() for split in ALL]
    archive = as_it_comes(tmp_path / "raw", aishell1(tmp_path / "source"))
    for number, raw in enumerate((archive.parent, archive, tmp_path / "source"), start=1):  # the last: half unpacked
        for split, rows in zip(ALL, loose, strict=True):
            result = converted("aishell-1", raw, tmp_path / f"out{number}", split)
            assert result.contents() == rows and not result.dropped
            assert result.rows[0]["speech"].startswith("unpacked/data_aishell")
    assert load_audio(converted("aishell-1", archive, tmp_path / "out2", "train").path(1, "speech")).shape == (1760,)


def test_aishell1_with_odd_cases(tmp_path):
    root = aishell1(tmp_path / "raw") / "data_aishell"
    speaker = root / "wav" / "train" / "S0002"
    lines = [
        b"\xef\xbb\xbfBAC009S0002W0001 \xe7\x94\xb2 \xe4\xb9\x99",  # after a byte order mark
        b"BAC009S0002W0002 ",  # no words
        b"BAC009S0002W0003",  # not even a space
        b"",
        b"BAC009S0002W0004 \xe7\x94\xb2",  # no wav
        b"BAC009S0002W0001 \xe4\xb8\x99",  # again
        b"BAC009S0002W0005 \xb2\xe2\xca\xd4",  # GBK
        b"BAC009S0002W00\xff6 \xe7\x94\xb2",  # a name that is no UTF-8
        b"BAC009S0002W0007 \xe7\x94\xb2",  # no sound in its wav
        b"BAC009S0002W0008 \xe7\x94\xb2",  # a link out of the corpus
        b"BAC009S0002W0009 \xe7\x94\xb2",  # a link inside it
        b"../../../../secret \xe7\x94\xb2",
    ]
    write(root.parent / TRANSCRIPT, b"\r\n".join(lines))
    for number in (1, 2, 3, 5):
        wav(speaker / f"BAC009S0002W000{number}.wav")
    os.link(speaker / "BAC009S0002W0001.wav", os.fsencode(speaker) + b"/BAC009S0002W00\xff6.wav")
    write(speaker / "BAC009S0002W0007.wav", b"RIFF")
    wav(tmp_path / "secret.wav")
    (speaker / "BAC009S0002W0008.wav").symlink_to(tmp_path / "secret.wav")
    (speaker / "BAC009S0002W0009.wav").symlink_to("BAC009S0002W0001.wav")
    result = converted("aishell-1", tmp_path / "raw", tmp_path / "out", "train")
    assert [row["id"] for row in result.rows] == ["BAC009S0002W0001", "BAC009S0002W0009"]
    assert result.rows[0]["response"] == "甲乙"
    report = result.report
    assert (report.inputs, report.kept) == (11, 2)
    assert report.dropped == {"no words": 2, "no such file": 2, "duplicate": 1, "link out of the corpus": 1}
    assert report.failed == {"not UTF-8": 2, "damaged": 1}
    assert not converted("aishell-1", tmp_path / "raw", tmp_path / "out", "dev").rows


CHANNELS = ("dev-ios", "dev-android", "dev-mic", "test-ios", "test-android", "test-mic")


def test_aishell2(tmp_path):
    aishell2(tmp_path / "raw")
    train = converted("aishell-2", tmp_path / "raw", tmp_path / "out", "train")
    assert train.rows[1] == {
        "id": "IC0002W0001",
        "speech": "../raw/iOS/data/wav/C0002/IC0002W0001.wav",
        "response": "打开 1",
        "source": "aishell-2",
        "duration": 0.1,
    }
    ids = {s: converted("aishell-2", tmp_path / "raw", tmp_path / "out", s).rows[0]["id"] for s in CHANNELS}
    assert list(ids.values()) == [f"{c}{s}W0001" for s in ("D0012", "T0055") for c in "IAM"]


@pytest.mark.parametrize("method", [0, 8])
def test_aishell2_as_it_comes(tmp_path, method):
    """TEST&DEV DATA.zip holds a tar.gz of each part; the training set is a tar."""
    loose = aishell2(tmp_path / "loose")
    expected = {s: converted("aishell-2", loose, tmp_path / "out0", s).contents() for s in ("train", *CHANNELS)}
    source = aishell2(tmp_path / "source")
    for channel in (source / "AISHELL-DEV-TEST-SET").iterdir():
        for part in ("dev", "test"):
            tar(channel / f"{part}.tar.gz", channel, [part], "w:gz")
            for path in sorted((channel / part).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (channel / part).rmdir()
    tar(tmp_path / "raw" / "AISHELL-2.tar", source, ["iOS"])
    zipped(tmp_path / "raw" / "eval" / "TEST&DEV DATA.zip", source / "AISHELL-DEV-TEST-SET", method=method)
    (tmp_path / "raw" / "eval").rename(tmp_path / "raw" / "AISHELL-DEV-TEST-SET")
    for split, rows in expected.items():
        result = converted("aishell-2", tmp_path / "raw", tmp_path / "out1", split)
        assert result.contents() == rows
        place = "../raw/AISHELL-2.tar:" if split == "train" else "unpacked/AISHELL-DEV-TEST-SET/TEST&DEV DATA.zip.tar:"
        assert result.rows[0]["speech"].startswith(place)
        assert load_audio(result.path(0, "speech")).shape == (1600,)


def test_aishell2_with_odd_cases(tmp_path):
    folder = aishell2(tmp_path / "raw") / "iOS" / "data"
    words = {"1": "打开灯", "2": " ", "3": "没有"}
    lines = [*(f"IC000{number}W0001\t{text}" for number, text in words.items()), "", "IC0004W0001"]
    lines += ["IC0002W0001\t后来", "IC0001W0001\t又"]
    write(folder / "trans.txt", "\ufeff" + "\r\n".join(lines))
    paths = ["IC0001W0001\twav/C0001/IC0001W0001.wav", "IC0002W0001\t../../../secret.wav", "IC0002W0001\twav/x.wav"]
    write(folder / "wav.scp", "\r\n".join([*paths, "IC0004W0001\twav/C0004/IC0004W0001.wav"]) + "\r\n")
    wav(tmp_path / "secret.wav")
    result = converted("aishell-2", tmp_path / "raw", tmp_path / "out", "train")
    assert [(row["id"], row["response"]) for row in result.rows] == [("IC0001W0001", "打开灯")]
    assert result.report.inputs == 6 and not result.report.failed
    assert result.report.dropped == {
        "no words": 2,
        "not in wav.scp": 1,
        "link out of the corpus": 1,
        "duplicate": 1,
    }
