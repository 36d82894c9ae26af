"""Quality review: pairs of image and text drawn from every source, scored by people and by a model, a verdict for each.

After the survey of GMAI-VL-5.5M. `draw` chooses the pairs, `sheets` hands them out, `judge` has a model score them,
`scores` reads what came back, `verdict` decides, `record` is what the corpus keeps of it.
"""
