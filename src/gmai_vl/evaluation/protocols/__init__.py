"""Protocols: named ways to judge responses, ours and those of the references with all their faults."""

from gmai_vl.evaluation.protocols.default import DEFAULT
from gmai_vl.evaluation.protocols.huatuo import HUATUO
from gmai_vl.evaluation.protocols.llava_med import LLAVA_MED
from gmai_vl.evaluation.protocols.lmms_eval import LMMS_EVAL
from gmai_vl.evaluation.protocols.medevalkit import MEDEVALKIT
from gmai_vl.evaluation.protocols.mmmu import MMMU
from gmai_vl.evaluation.protocols.mmmu_pro import MMMU_PRO
from gmai_vl.evaluation.protocols.multimedeval import MULTIMEDEVAL
from gmai_vl.evaluation.protocols.omnimedvqa_difflib import OMNIMEDVQA_DIFFLIB
from gmai_vl.evaluation.protocols.omnimedvqa_prefix import OMNIMEDVQA_PREFIX
from gmai_vl.evaluation.protocols.protocol import Protocol
from gmai_vl.evaluation.protocols.vlmevalkit import VLMEVALKIT

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        DEFAULT,
        MMMU,
        MMMU_PRO,
        LMMS_EVAL,
        VLMEVALKIT,
        MEDEVALKIT,
        HUATUO,
        LLAVA_MED,
        MULTIMEDEVAL,
        OMNIMEDVQA_DIFFLIB,
        OMNIMEDVQA_PREFIX,
    )
}
