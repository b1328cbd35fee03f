#!/bin/sh
# Starts and stops `pylon api` in the background, where no systemd does it:
#
#   ops/pylon.sh start [OPTIONS OF pylon api]   # returns once it answers, and says where
#   ops/pylon.sh status
#   ops/pylon.sh stop                           # answers under way have --grace-seconds
#
# PYLON is the program (pylon), PYLON_STATE the folder of its log and process id (~/.local/state/pylon).
# Exit status: 0 done or running; 3 not running; otherwise that of a `pylon api` that could not start.
set -u

program=${PYLON:-pylon}
state=${PYLON_STATE:-${XDG_STATE_HOME:-$HOME/.local/state}/pylon}
log=$state/api.log
pid_file=$state/api.pid

# When a process was started. Numbers of processes are given anew after a while, and then belong to somebody else's.
begun() {
    if [ -r "/proc/$1/stat" ]; then
        # The 22nd field, in ticks since the machine started; the name in the second one may have spaces.
        sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20
    else
        ps -o lstart= -p "$1" 2>/dev/null | xargs
    fi
}

# The id of the process that was started, if it is that one still.
running() {
    [ -r "$pid_file" ] && { read -r pid && read -r since; } <"$pid_file" && [ -n "$since" ] &&
        [ "$(begun "$pid")" = "$since" ]
}

address() {
    sed -n 's/.* at \(https\{0,1\}:[^ ]*\) (Ctrl-C.*/\1/p' "$log" | tail -n 1
}

# What the process that runs is doing.
doing() {
    where=$(address)
    if [ -n "$where" ]; then echo "answers at $where"; else echo "is loading its model"; fi
}

start() {
    if running; then
        echo "pylon: it runs already: process $pid $(doing); \`$0 stop\` ends it" >&2
        return 1
    fi
    if ! command -v "$program" >/dev/null; then
        echo "pylon: there is no program $program on the PATH; set PYLON to where it is, as PYLON=target/release/pylon" >&2
        return 127
    fi
    mkdir -p "$state" && : >"$log" || return 2
    # Its keys come from the environment or a file: whoever lists processes does not see them.
    nohup "$program" api "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    { echo "$pid" && begun "$pid"; } >"$pid_file"
    # Loading a large model takes its time; that it ends is known from its process.
    until [ -n "$(address)" ]; do
        if ! kill -0 "$pid" 2>/dev/null; then
            wait "$pid"
            status=$?
            rm -f "$pid_file"
            cat "$log" >&2
            return "$status"
        fi
        sleep 0.1
    done
    echo "pylon: process $pid answers at $(address); its lines are in $log"
}

stop() {
    if ! running; then
        echo "pylon: it does not run" >&2
        return 3
    fi
    kill -TERM "$pid"
    while running; do sleep 0.1; done
    rm -f "$pid_file"
    echo "pylon: process $pid has ended"
}

status() {
    if running; then
        echo "pylon: process $pid $(doing); its lines are in $log"
    else
        echo "pylon: it does not run"
        return 3
    fi
}

case ${1:-} in
start) shift && start "$@" ;;
stop | status) "$1" ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
