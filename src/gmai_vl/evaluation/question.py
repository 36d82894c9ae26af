"""One question about images, as a model is asked it and scored by it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gmai_vl.records import Kind, Region, Turn
from gmai_vl.vocabulary import Language


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question about images and its reference answer."""

    id: str
    kind: Kind
    """mcq, closed (yes or no, or one word out of few), open or grounding."""

    language: Language

    turns: tuple[Turn, ...]
    """The conversation up to the answer, which is left out: what is asked, with options and instruction."""

    stem: str
    """The question's own words, without options and instruction."""

    images: tuple[str, ...]
    """Names of the images that the turns show; the benchmark gives the pixels of a name."""

    width: int = 0
    """Columns of the first image; of grounding questions."""

    height: int = 0
    """Rows of the first image; of grounding questions."""

    options: dict[str, str] | None = None
    """Letter -> text for multiple choice."""

    answer: str | None
    """Letter for mcq, yes/no (是/否) or a word for closed, words for open, markup for grounding; None if withheld."""

    alternatives: tuple[str, ...] = ()
    """Other answers that are right as well."""

    regions: tuple[Region, ...] = ()
    """What a grounding question asks for."""

    form: str | None = None
    """Form of the question: modality, plane, presence, side ..."""

    subject: str | None = None
    """Label that the question is about, where it is about one."""

    modality: str | None = None
    department: str | None = None
    clinical_task: str | None = None
    task: str | None = None

    source: str
    """Dataset that it is from."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """What else scores are given by, such as question type or granularity: name -> value."""

    patient_id: str | None = None
    """None where unknown."""

    @property
    def text(self) -> str:
        """The text of the last turn: the question with its options and instruction."""
        return self.turns[-1].text

    @property
    def reference(self) -> str:
        """The answer of a question whose answer is not withheld."""
        assert self.answer is not None, self.id
        return self.answer

    @property
    def patient(self) -> tuple[str, str]:
        """What answers may be alike within: the patient of the source, or else the image."""
        return self.source, self.patient_id if self.patient_id is not None else "".join(self.images) or self.id
