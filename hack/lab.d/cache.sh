# shellcheck shell=bash
# The cache folder, and the one way to put something into it: made aside, moved
# into place when it is whole, so that what is there is always complete.

CACHE=${CRIDGE_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/cridge}
# shellcheck disable=SC2154,SC2034 # hack/lab says where it is; others read this
REPO=$(cd "$here/.." && pwd)
mkdir -p "$CACHE/lock"

say() { printf 'lab: %s\n' "$*" >&2; }
die() {
    printf 'lab: %s\n' "$*" >&2
    exit 1
}

# once PLACE WHAT FUNCTION [ARG...]: has FUNCTION fill a fresh folder ($1 of its
# arguments) that becomes $CACHE/PLACE; does nothing when that is there already.
once() {
    local place=$1 what=$2 make=$3 fresh log
    shift 3
    [ ! -e "$CACHE/$place" ] || return 0
    (
        flock 9
        [ ! -e "$CACHE/$place" ] || exit 0
        say "getting $what"
        # Its own name, so that a run that was interrupted is cleared away by the next.
        fresh=$CACHE/fresh.${place//\//-}
        rm -rf "$fresh"
        mkdir "$fresh"
        log=$CACHE/log.${place//\//-}
        # In a process of its own: errexit would not hold inside a condition.
        (set -e; "$make" "$fresh" "$@") >"$log" 2>&1 9>&- &
        if ! wait $!; then
            rm -rf "$fresh"
            tail -n 20 "$log" >&2
            die "$what: failed; the whole log is $log"
        fi
        mkdir -p "$(dirname "$CACHE/$place")"
        mv -T "$fresh" "$CACHE/$place"
        rm -f "$log"
    ) 9>"$CACHE/lock/${place//\//-}"
}

# fingerprint FILE...: names what these files hold, for a place that must be made
# anew when they change.
fingerprint() { cat "$@" | sha256sum | cut -c 1-12; }

# settle SECONDS COMMAND...: waits until COMMAND succeeds.
settle() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}
