#!/bin/sh
# Installs tallyd:  systemd/install.sh [PREFIX=/usr/local] [DESTDIR=/staging] [PYTHON=python3.11] …
#
#   PREFIX/lib/tallyd              a virtual environment with the daemon and what it needs
#   PREFIX/bin/tallyd              the command
#   PREFIX/share/doc/tallyd        documents and drop-in examples
#   UNITDIR/tallyd.service         the unit, with the paths filled in
#   UNITDIR/tallyd@.service        the same for one role of several (docs/scaling.md)
#   SYSUSERSDIR, TMPFILESDIR       the account and the modes of the configuration
#   SYSCONFDIR/tallyd/tallyd.yml   the configuration, never overwritten
#
# Running it again upgrades: the new environment is complete before it takes the old one's place.
# WHEEL=file installs that wheel; PIP_ARGS is handed to pip (for example "--no-index --find-links=…").
set -eu

PREFIX=/usr/local
DESTDIR=
PYTHON=
SYSCONFDIR=/etc
UNITDIR=
SYSUSERSDIR=
TMPFILESDIR=
WHEEL=
PIP_ARGS=${PIP_ARGS:-}

say() { printf '%s\n' "$*"; }
die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

for setting in "$@"; do
    case $setting in
    PREFIX=* | DESTDIR=* | PYTHON=* | SYSCONFDIR=* | UNITDIR=* | SYSUSERSDIR=* | TMPFILESDIR=* | \
        WHEEL=* | PIP_ARGS=*)
        name=${setting%%=*}
        value=${setting#*=}
        # An empty value leaves the default, so that a Makefile can hand on what it was not given.
        [ -z "$value" ] || eval "$name=\$value"
        ;;
    -h | --help)
        sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    *) die "unknown setting '$setting' (see install.sh --help)" ;;
    esac
done
case $PREFIX in /*) ;; *) die "PREFIX must be an absolute path, not '$PREFIX'" ;; esac
case $DESTDIR in '' | /*) ;; *) die "DESTDIR must be an absolute path, not '$DESTDIR'" ;; esac
case "$PREFIX$DESTDIR$SYSCONFDIR" in *[!A-Za-z0-9_./+-]*)
    die "PREFIX, DESTDIR and SYSCONFDIR may hold only letters, digits and _ . / + -" ;;
esac
PREFIX=${PREFIX%/}
# /usr belongs to the distribution's units, everything else to the administrator's.
case $PREFIX in
/usr) lib=/usr/lib ;;
*) lib=/usr/local/lib ;;
esac
[ -n "$UNITDIR" ] || { [ "$lib" = /usr/lib ] && UNITDIR=/usr/lib/systemd/system || UNITDIR=/etc/systemd/system; }
[ -n "$SYSUSERSDIR" ] || { [ "$lib" = /usr/lib ] && SYSUSERSDIR=/usr/lib/sysusers.d || SYSUSERSDIR=/etc/sysusers.d; }
[ -n "$TMPFILESDIR" ] || { [ "$lib" = /usr/lib ] && TMPFILESDIR=/usr/lib/tmpfiles.d || TMPFILESDIR=/etc/tmpfiles.d; }

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
home=$DESTDIR$PREFIX/lib/tallyd

if [ -z "$PYTHON" ]; then
    for PYTHON in python3.11 python3 ''; do
        [ -n "$PYTHON" ] && command -v "$PYTHON" >/dev/null 2>&1 && break
    done
    [ -n "$PYTHON" ] || die "no python3 found: set PYTHON=/path/to/python3.11"
fi
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$PYTHON is older than Python 3.11: set PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$PYTHON can not make virtual environments: apt-get install python3-venv"

case $("$PYTHON" -c 'import sys; print(sys.base_prefix)') in
/home/* | /root/*)
    say "Warning: $PYTHON lives in a home folder, which the unit hides from the daemon (ProtectHome):"
    say "         the service will not start; set PYTHON=/usr/bin/python3" ;;
esac

mkdir -p "$DESTDIR$PREFIX/lib" || die "$DESTDIR$PREFIX/lib can not be written: run as root or set PREFIX"
work=$(mktemp -d "${TMPDIR:-/tmp}/tallyd-install.XXXXXX")
new=$home.new
trap 'rm -rf "$work" "$new"' EXIT
trap 'exit 1' HUP INT TERM

say "Building the environment with $PYTHON"
rm -rf "$new"
"$PYTHON" -m venv "$new"
if [ -z "$WHEEL" ]; then
    # From a copy: setuptools writes beside what it builds, and takes up what an older build left.
    mkdir "$work/source"
    for part in pyproject.toml README.md actors api daemon proto; do
        cp -R "$root/$part" "$work/source/"
    done
    # shellcheck disable=SC2086 # PIP_ARGS is a list of words.
    "$new/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps $PIP_ARGS \
        --wheel-dir "$work" "$work/source"
    WHEEL=$(echo "$work"/tallyd-*.whl)
fi
# shellcheck disable=SC2086
"$new/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile $PIP_ARGS "$WHEEL"
# pip wrote absolute paths of the staging folder into the scripts of our dependencies. Nobody calls
# them; ours finds its environment from where it lies, so the result may be moved.
find "$new/bin" -mindepth 1 ! -name 'python*' -delete
cat >"$new/bin/tallyd" <<'SCRIPT'
#!/bin/sh
# -I: nothing from the caller's folder or PYTHON* variables gets into the daemon.
exec "$(dirname -- "$(readlink -f -- "$0")")/python" -I -m daemon "$@"
SCRIPT
chmod 0755 "$new/bin/tallyd"
# Only a note of how it was made, with the staging folder in it.
sed -i '/^command = /d' "$new/pyvenv.cfg"
# Compiled now, because the daemon may not write there later.
"$new/bin/python" -m compileall -q -j 0 "$new/lib"
chmod -R a+rX,go-w "$new"
rm -rf "$home.old"
[ ! -e "$home" ] || mv "$home" "$home.old"
mv "$new" "$home"
rm -rf "$home.old"
"$home/bin/python" -I -c 'import daemon' || die "the installed daemon does not import"

mkdir -p "$DESTDIR$PREFIX/bin"
ln -sfn ../lib/tallyd/bin/tallyd "$DESTDIR$PREFIX/bin/tallyd"

put() { # put SOURCE TARGET: a file of mode 0644 with the paths filled in
    mkdir -p "$(dirname -- "$DESTDIR$2")"
    sed -e "s|/usr/local|$PREFIX|g" -e "s|/etc/tallyd|$SYSCONFDIR/tallyd|g" "$1" >"$work/file"
    install -m 0644 "$work/file" "$DESTDIR$2"
}
put "$here/tallyd.service" "$UNITDIR/tallyd.service"
put "$here/tallyd@.service" "$UNITDIR/tallyd@.service"
put "$here/tallyd.sysusers" "$SYSUSERSDIR/tallyd.conf"
put "$here/tallyd.tmpfiles" "$TMPFILESDIR/tallyd.conf"
doc=$PREFIX/share/doc/tallyd
for file in "$root"/docs/*.md "$root/README.md"; do
    [ ! -f "$file" ] || put "$file" "$doc/$(basename -- "$file")"
done
for file in "$here"/examples/*.conf; do
    put "$file" "$doc/systemd/$(basename -- "$file")"
done
put "$here/tallyd.yml" "$doc/tallyd.yml"
config=$SYSCONFDIR/tallyd/tallyd.yml
if [ -e "$DESTDIR$config" ]; then
    say "Kept your $config"
else
    put "$here/tallyd.yml" "$config"
fi

say "Installed tallyd into $DESTDIR$PREFIX. Next, as root:"
[ -z "$DESTDIR" ] || say "  (on the machine it is made for, with $DESTDIR unpacked at /)"
say "  systemd-sysusers tallyd.conf && systemd-tmpfiles --create tallyd.conf
  editor $config
  systemctl daemon-reload
  systemd-run --pipe -p User=tallyd -p StateDirectory=tallyd $PREFIX/bin/tallyd check -config $config
  systemctl enable --now tallyd
  systemctl status tallyd; journalctl -u tallyd"
