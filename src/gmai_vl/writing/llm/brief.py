"""What the annotation tells, in plain English for a prompt: every line is a fact that a text may repeat."""

from gmai_vl.vocabulary import Term
from gmai_vl.writing.facts import CaseFacts, FindingFacts
from gmai_vl.writing.laterality import PATIENT_SIDES
from gmai_vl.writing.phrases import image_name, plural, relation_words
from gmai_vl.writing.relations import APART

MOST_LISTED = 12
"""Labels, and absent labels, that a prompt lists: more would drown the rest."""

MOST_PAIRS = 4


def brief_of(facts: CaseFacts) -> str:
    """Return the facts of a case, one on each line."""
    lines = [f"- Kind of image: {image_name(facts, 'en', whole=True)}"]
    lines += [f"- {_label_line(facts, label)}" for label in facts.labels[:MOST_LISTED]]
    if not facts.findings:
        lines.append(f"- Result: {facts.negative.en if facts.negative else 'nothing of what was looked for'}")
    if facts.grade:
        lines.append(f"- Grade: {facts.grade.en} (from {', '.join(grade.en for grade in facts.severity)})")
    lines += [f"- {line}" for line in _pair_lines(facts)]
    if facts.absent:
        lines.append(f"- Surely not there: {', '.join(label.en for label in facts.absent[:MOST_LISTED])}")
    return "\n".join(lines)


def region_brief(finding: FindingFacts) -> str:
    """Return what is known of one finding, one on each line."""
    lines = [f"- Holds: {finding.label.en}", *(f"- {detail}" for detail in _details(finding))]
    return "\n".join(lines)


def _label_line(facts: CaseFacts, label: Term) -> str:
    findings = facts.of(label)
    if len(findings) == 1:
        return "; ".join([label.en, *_details(findings[0])])
    return f"{len(findings)} {plural(label.en)}" if label in facts.counted else label.en


def _details(finding: FindingFacts) -> list[str]:
    told = []
    if finding.position:
        told.append(f"place in the picture: {finding.position.en}")
    if finding.size:
        told.append(f"size in the picture: {finding.size.en}")
    if finding.percent:
        told.append(f"covers {finding.percent} % of the image")
    if finding.laterality in PATIENT_SIDES:
        told.append(f"on {PATIENT_SIDES[finding.laterality].en}")
    if finding.measures:
        told.append(f"longest diameter {finding.measures.diameter.en}")
    return told


def _pair_lines(facts: CaseFacts) -> list[str]:
    lines = []
    for pair in facts.pairs:
        relation = pair.contact if pair.contact and pair.contact != APART else pair.direction
        if relation:
            says = relation_words(relation, pair.other, "en", "says", pair.subject.en)
            lines.append(f"the {pair.subject.en} {says}")
    return lines[:MOST_PAIRS]
