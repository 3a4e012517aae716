"""The studies that come along, by name."""

from robofuse.study.declare import Study

_ALL = (
    Study(
        name="example",
        title="Dropout of sensors in least squares",
        question="Does masking sensors at random make a linear estimate better where one of them is missing?",
        trial="example",
        methods={"no dropout": {}, "10 %": {"dropout": 0.1}, "30 %": {"dropout": 0.3}, "50 %": {"dropout": 0.5}},
        score="error/-camera",
        space={"dropout": ("float", 0.0, 0.9, False)},
    ),
)
STUDIES = {study.name: study for study in _ALL}
