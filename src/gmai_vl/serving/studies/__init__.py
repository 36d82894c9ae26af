"""Studies that people upload: pictures, DICOM, volumes; opened, kept for a while, shown slice by slice."""

from gmai_vl.serving.studies.routes import study_routes
from gmai_vl.serving.studies.series import Series, Stack
from gmai_vl.serving.studies.store import StudyStore
from gmai_vl.serving.studies.study import Study, open_study
from gmai_vl.serving.studies.windows import PRESETS

__all__ = ["PRESETS", "Series", "Stack", "Study", "StudyStore", "open_study", "study_routes"]
