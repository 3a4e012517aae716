"""The page of a live replay in a real browser."""

import shutil
import threading
import time
from contextlib import closing, contextmanager

import cv2
import numpy as np
import pytest
import torch
from replaying import small_world

from robofuse.replay.live import Live
from robofuse.replay.page import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


class Still:
    """Does nothing."""

    def act(self, observation):
        return torch.zeros(1, 5)


@contextmanager
def tab():
    """A page of a browser without a window; skips the test where there is none."""
    from playwright import sync_api as api

    executable = next(filter(None, map(shutil.which, NAMES)), None)
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        except api.Error as error:
            pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")
        with closing(browser):
            yield browser.new_page(viewport={"width": 1400, "height": 900})


def until(what, tab, seconds=20.0):
    """Waits until something is so; the tab goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "nothing happened"
        tab.wait_for_timeout(50)


@pytest.mark.slow
def test_switches_of_the_page_break_the_sensors_of_the_session():
    world, moments = small_world(), []
    with tab() as seen, Page("127.0.0.1", 0, "a test") as page:

        def show(moment):
            page.show(moment)
            moments.append(moment)

        live = Live(Still(), world, show)
        page.open(live)
        thread = threading.Thread(target=live.run)
        thread.start()
        try:
            errors = []
            seen.on("pageerror", lambda error: errors.append(error))
            seen.goto(page.url)
            canvas = seen.wait_for_selector("canvas")
            until(lambda: seen.locator(".light-rgb-good").count() == 1, seen)

            def scene():
                return cv2.imdecode(np.frombuffer(canvas.screenshot(), np.uint8), cv2.IMREAD_COLOR)

            until(lambda: scene()[300:600, 500:900].std() > 10.0, seen)  # there is something in the middle

            first = moments[-1]
            seen.get_by_label("switch off").first.click()
            until(lambda: not moments[-1].frame.on["rgb"], seen)
            assert str(moments[-1].plan).startswith("rgb:blackout")  # at whichever step it was
            assert not moments[-1].frame.observation["rgb"].any() and moments[-1].frame.on["depth"]
            assert first.frame.on["rgb"]
            until(lambda: seen.locator(".light-rgb-off").count() == 1, seen)
            seen.get_by_label("switch off").first.click()
            until(lambda: moments[-1].frame.on["rgb"], seen)

            seen.get_by_label("fault").nth(1).click()
            seen.get_by_role("option", name="holes").click()
            until(lambda: moments[-1].affected["depth"] and moments[-1].frame.on["depth"], seen)
            assert "depth:holes(0.5)" in str(moments[-1].plan)

            episode = moments[-1].frame.episode
            seen.get_by_role("button", name="new scene").click()
            until(lambda: moments[-1].frame.episode == episode + 1, seen)
            seen.get_by_role("button", name="pause").click()
            until(lambda: seen.get_by_role("button", name="go on").count() == 1, seen)
            seen.wait_for_timeout(200)
            count = len(moments)
            seen.wait_for_timeout(300)
            assert len(moments) == count
            seen.get_by_role("button", name="go on").click()
            until(lambda: len(moments) > count, seen)
            assert not errors

            seen.close()  # and the session goes on
            count, deadline = len(moments), time.monotonic() + 10.0
            while len(moments) < count + 10 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert len(moments) >= count + 10
        finally:
            live.stop()
            thread.join(10.0)
            world.close()
    assert not thread.is_alive()
