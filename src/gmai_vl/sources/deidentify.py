"""De-identification of a DICOM data set: what a table names is kept, mapped, shifted or removed; all else is removed.

The table (deidentify.csv) follows the Basic Application Level Confidentiality Profile (DICOM PS3.15, Annex E, Table
E.1-1) with the options for dates that are shifted. It is stricter than the profile: an element that the table does not
name, a private one, an overlay or a curve is removed, and a code string is kept only where the table lists its value.
"""

import csv
import datetime
import hashlib
import hmac
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from gmai_vl.foundation import UserError

PROFILE = "PS3.15 Basic Application Level Confidentiality Profile, dates shifted; elements not listed removed"
PUBLIC_KEY = b"gmai-vl"
"""Key of the hashes where a source names no secret: whoever has a list of candidates can then try them."""

MOST_DAYS = 3650
"""Dates are moved back by 1 to so many days, by the same number for all of one patient."""

Record = dict[str, Any]
"""profile, and action -> names of the elements; never a value."""

_ACTION_NAMES = {"uid": "mapped", "date": "shifted", "pseudonym": "replaced", "remove": "removed"}


@dataclass(frozen=True, slots=True)
class _Rule:
    action: str
    values: frozenset[str]


@cache
def _rules() -> dict[int, _Rule]:
    text = (files("gmai_vl.sources") / "deidentify.csv").read_text(encoding="utf-8")
    return {
        int(row["tag"].replace("-", ""), 16): _Rule(row["action"], frozenset(row["values"].split(";")) - {""})
        for row in csv.DictReader(text.splitlines())
    }


def secret_of(secret_env: str | None, place: str) -> bytes:
    """Return the key of a source's hashes. Raises UserError, beginning with `place`, if its variable is not set."""
    if secret_env is None:
        return PUBLIC_KEY
    secret = os.environ.get(secret_env, "")
    if len(secret) < 16:
        raise UserError(f"{place}: secret_env: the variable {secret_env} holds fewer than 16 characters; set it")
    return secret.encode()


def keyed_hash(key: bytes, kind: str, value: str) -> str:
    """Return 64 hexadecimal digits that depend on key, kind and value and tell nothing of the value without the key."""
    return hmac.new(key, f"{kind}|{value}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def pseudonym_of(ds: Dataset, key: bytes) -> str | None:
    """Return an id that is equal for one patient (else for one study), and nothing else of them."""
    if patient := str(ds.get("PatientID") or "").strip():
        issuer = str(ds.get("IssuerOfPatientID") or "").strip()
        return "patient-" + keyed_hash(key, "patient", f"{issuer}|{patient}")[:16]
    if study := str(ds.get("StudyInstanceUID") or "").strip():
        return "study-" + keyed_hash(key, "study", study)[:16]
    return None


def deidentify(ds: Dataset, key: bytes) -> tuple[Dataset, Record]:
    """Return a data set with what may stay, and the record of what was done. `ds` is left as it is.

    Of the file's own header only the transfer syntax stays.
    """
    patient = pseudonym_of(ds, key)
    done: dict[str, set[str]] = defaultdict(set)
    days = 1 + int(keyed_hash(key, "days", patient or "")[:8], 16) % MOST_DAYS
    clean = _cleaned(ds, key, patient, days, "", done)
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = PROFILE[:64]
    clean.LongitudinalTemporalInformationModified = "MODIFIED"
    if meta := getattr(ds, "file_meta", None):
        clean.file_meta = type(meta)()
        if "TransferSyntaxUID" in meta:
            clean.file_meta.TransferSyntaxUID = meta.TransferSyntaxUID
        done["removed"].update(_name(element, "file meta: ") for element in meta if element.keyword != _SYNTAX)
    return clean, {"profile": PROFILE, **{action: sorted(names) for action, names in sorted(done.items())}}


_SYNTAX = "TransferSyntaxUID"


def _cleaned(ds: Dataset, key: bytes, patient: str | None, days: int, place: str, done: dict[str, set[str]]) -> Dataset:
    clean = Dataset()
    for tag in sorted(ds.keys()):
        rule = _rules().get(int(tag))
        if rule is None:
            done["removed as not listed" if not BaseTag(tag).is_private else "removed as private"].add(
                f"{place}{_keyword(tag)}"
            )
            continue
        element = ds[tag]
        if rule.action == "walk" and element.VR == "SQ":
            items = [_cleaned(item, key, patient, days, f"{place}{element.keyword}.", done) for item in element.value]
            clean.add(DataElement(tag, "SQ", Sequence(items)))
            continue
        value = _kept(element, rule, key, patient, days)
        if value is not None:
            clean.add(DataElement(tag, element.VR, value))
        if name := _ACTION_NAMES.get(rule.action):
            done[name].add(_name(element, place))
        elif value is None and not element.is_empty:
            done["removed for its value"].add(_name(element, place))
    return clean


def _kept(element: DataElement, rule: _Rule, key: bytes, patient: str | None, days: int) -> Any:
    """Return what stays of a value, None for nothing."""
    match rule.action:
        case "keep":
            return element.value if element.VR.partition(" or ")[0] in _NUMBERS else None
        case "code":
            values = [element.value] if isinstance(element.value, str) else list(element.value or ())
            known = [str(value) for value in values if str(value).strip().upper() in rule.values]
            return known or None
        case "standard":
            return element.value if UID(str(element.value)).name != str(element.value) else None
        case "uid":
            uids = [element.value] if isinstance(element.value, str) else list(element.value or ())
            return [mapped_uid(str(uid), key) for uid in uids if str(uid)] or None
        case "date":
            return _shifted(str(element.value or ""), days)
        case "pseudonym":
            return patient
    return None


_NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "DS", "IS", "OB", "OW", "OF", "OD", "OL"})
"""Value representations of numbers and pixels; the table keeps no text."""


def mapped_uid(uid: str, key: bytes) -> str:
    """Return the UID below 2.25 (PS3.5 B.2) that stands for `uid` in everything that is hashed with `key`."""
    return f"2.25.{int(keyed_hash(key, 'uid', uid)[:32], 16)}"


def _shifted(value: str, days: int) -> str | None:
    """Return a date, or the date of a time, moved back; None where it is none."""
    try:
        date = datetime.datetime.strptime(value[:8], "%Y%m%d").date()
        return (date - datetime.timedelta(days=days)).isoformat().replace("-", "")
    except (ValueError, OverflowError):
        return None


def _keyword(tag: BaseTag) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"


def _name(element: DataElement, place: str) -> str:
    return f"{place}{element.keyword or _keyword(element.tag)}"
