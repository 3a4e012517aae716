"""Policies from and to a hub, which here is a server of this machine."""

import hashlib
import http.server
import threading
from pathlib import Path

import huggingface_hub as hub
import pytest

import robofuse
from robofuse.policies.hub import download
from robofuse.policies.push import Push, push, run_push
from robofuse.policies.saving import ZOO

COMMIT = "0" * 39 + "1"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder REPO/FILE that is served as the hub serves the files of its repositories; and what was asked for."""
    root, asked = tmp_path / "hub", []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self, body=True):
            asked.append(self.path)
            user, name, _, revision, *file = self.path.strip("/").split("/")
            repo, path = root / user / name, root / user / name / "/".join(file)
            code = None if repo.is_dir() else "RepoNotFound"
            if not code and revision not in ("main", COMMIT):
                code = "RevisionNotFound"
            if not code and not path.is_file():
                code = "EntryNotFound"
            data = b"" if code else path.read_bytes()
            self.send_response(404 if code else 200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", COMMIT)
            if code:
                self.send_header("X-Error-Code", code)
            else:
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.end_headers()
            if body:
                self.wfile.write(data)

        def do_HEAD(self):
            self.do_GET(body=False)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    real = hub.hf_hub_download
    cache = str(tmp_path / "cache")
    monkeypatch.setattr(hub, "hf_hub_download", lambda **o: real(**o, endpoint=address, cache_dir=cache, token=False))
    yield root
    server.shutdown()
    server.server_close()


def put(root, repo, file="policy.safetensors", source="grasp.safetensors"):
    path = root / repo / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((ZOO / source).read_bytes())
    return path


def test_a_policy_is_loaded_by_its_name_on_the_hub(served):
    put(served, "ann/grasp")
    put(served, "ann/grasp", "policy.monitor", "grasp.monitor")
    put(served, "ann/grasp", "other.safetensors", "grasp-dropout.safetensors")
    policy, shipped = robofuse.load("hf://ann/grasp"), robofuse.load("grasp")
    assert policy.world == shipped.world and policy.keys == shipped.keys
    path = download("hf://ann/grasp")
    assert path.with_suffix(".monitor").is_file()  # comes along, as evaluate --monitor auto looks beside the policy
    assert download(f"hf://ann/grasp@{COMMIT}") == path
    assert download("hf://ann/grasp/other.safetensors").read_bytes() == (ZOO / "grasp-dropout.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("hf://nobody/nothing", ValueError, "no file policy.safetensors there, or not for you"),
        ("hf://ann/grasp/none.safetensors", ValueError, "no file none.safetensors"),
        ("hf://ann/grasp@other", ValueError, "the hub has no file"),
        ("hf://ann/grasp/agent.zip", ValueError, "a policy on the hub is hf://USER/NAME"),
        ("hf://ann", ValueError, "a policy on the hub is hf://USER/NAME"),
    ],
)
def test_what_is_not_there_is_said(served, name, kind, message):
    put(served, "ann/grasp")
    with pytest.raises(kind, match=message):
        robofuse.load(name)


def test_a_file_that_is_no_policy_is_refused(served):
    put(served, "ann/grasp").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(ValueError, match="policy.safetensors"):
        robofuse.load("hf://ann/grasp")


def test_without_a_network(tmp_path, monkeypatch):
    real, cache = hub.hf_hub_download, str(tmp_path)
    closed = "http://127.0.0.1:9"  # nobody listens there
    monkeypatch.setattr("time.sleep", lambda _: None)  # it tries again and again
    monkeypatch.setattr(hub, "hf_hub_download", lambda **o: real(**o, endpoint=closed, cache_dir=cache, token=False))
    with pytest.raises(RuntimeError, match="hf://ann/grasp.*(reached|fetched)"):
        robofuse.load("hf://ann/grasp")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(RuntimeError, match=r"robofuse\[hub\]"):
        robofuse.load("hf://ann/grasp")


def test_what_is_pushed_can_be_loaded(served, monkeypatch, capsys):
    class Api:
        def create_repo(self, repo, private, exist_ok):
            assert exist_ok and private
            return f"https://hub/{repo}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            for path in Path(folder_path).iterdir():
                (served / repo_id).mkdir(parents=True, exist_ok=True)
                (served / repo_id / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(hub, "HfApi", Api)
    assert run_push(Push("grasp", "ann/mine", private=True)) == 0
    assert "hf://ann/mine" in capsys.readouterr().out
    assert sorted(path.name for path in (served / "ann/mine").iterdir()) == [
        "README.md", "policy.monitor", "policy.safetensors"
    ]  # fmt: skip
    card = (served / "ann/mine/README.md").read_text()
    assert card.startswith("---\nlibrary_name: robofuse\n") and "| all | 98.4%" in card and "hf://ann/mine" in card
    assert robofuse.load("hf://ann/mine").keys == robofuse.load("grasp").keys


def test_pushing_wrong_things(monkeypatch):
    class Closed:
        def create_repo(self, *_, **__):
            raise hub.errors.LocalTokenNotFoundError("no token")

    monkeypatch.setattr(hub, "HfApi", Closed)
    with pytest.raises(RuntimeError, match="have you logged in"):
        push("grasp", "ann/mine")
    with pytest.raises(ValueError, match="USER/NAME"):
        push("grasp", "mine")
    with pytest.raises(ValueError, match="no policy 'nothing'"):
        push("nothing", "ann/mine")
