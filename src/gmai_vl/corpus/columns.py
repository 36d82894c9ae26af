"""Words for what samples and cases are counted and filtered by."""

NOT_GIVEN = "not given"

TASKS = {"cls": "classification", "det": "detection", "seg": "segmentation", "qa": "questions"}
"""What a source annotates, as ids have it and in words."""
