#!/bin/sh
# Drives the page of `make web` in headless Chromium and compares it with the tool:
#     tests/web.sh BUILD
# CHROMIUM names the browser. Without it or without node this says so and fails.
set -eu
build=${1:?usage: web.sh BUILD}
for browser in ${CHROMIUM:-chromium chromium-browser google-chrome}; do
    command -v "$browser" >/dev/null && break
    browser=
done
lacks=
[ -n "$browser" ] || lacks="chromium (package chromium)"
command -v node >/dev/null || lacks="${lacks:+$lacks and }node (package nodejs)"
if [ -n "$lacks" ]; then
    echo "web-test lacks $lacks"
    exit 1
fi
exec node tests/web.mjs "$browser" "$build/msae" "$build/web"
