"""A study of a user's own, whose jobs die, fail, or take their time as their options say."""

import os
import signal
import time

from robofuse.errors import InputError
from robofuse.study import Study, register_trial
from robofuse.study.registry import Kind


def run(options, seed, folder, report):
    with (folder / "attempts").open("a") as file:
        file.write("x")
    attempts = len((folder / "attempts").read_text())
    report(0.5)
    if attempts <= options.get("deaths", 0):
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if attempts <= options.get("errors", 0):
        raise ZeroDivisionError("of this attempt")
    if options.get("impossible"):
        raise InputError("there is no such sensor")
    time.sleep(options.get("naps", 0.0))
    return {"success/all": (seed + options["gain"]) / 10.0, "seconds": 1.0}


def prepare(options, folder):
    with (folder / "attempts").open("a") as file:
        file.write("x")
    if options.get("spoiled"):
        raise InputError("no demonstrations")


register_trial("own-runs", Kind(run))
register_trial("own-shares", Kind(run, prepare))


def study(name, trial="own-runs", **methods):
    return Study(name=name, title="Own", question="Does it run?", trial=trial, methods=methods, seeds=(0, 1, 2))


dies = study("dies", steady={"gain": 1}, dies={"gain": 4, "deaths": 1}, fails={"gain": 2, "errors": 2})
lost = study("lost", steady={"gain": 1}, impossible={"gain": 2, "impossible": True}, mortal={"gain": 3, "deaths": 99})
slow = study("slow", quick={"gain": 1}, slow={"gain": 2, "naps": 1.5})
shares = study("shares", trial="own-shares", one={"gain": 1}, two={"gain": 2})
spoiled = Study(
    name="spoiled", title="Own", question="Does it run?", trial="own-shares", methods={"one": {"gain": 1}},
    tasks={"good": {}, "bad": {"spoiled": True}}, seeds=(0,),
)  # fmt: skip
