# SPDX-License-Identifier: Apache-2.0
# bash completion for ciliumpy. Made from the command tree; `python -m ciliumpy.cli.completions` makes it anew.

_ciliumpy_names() {
    "${COMP_WORDS[0]/#\~/$HOME}" __complete "$@" 2>/dev/null
}

# What can be said: words, file, any, or @KIND, names that are asked for.
_ciliumpy_offer() {
    local cut
    case "$1" in
        "" | any) ;;
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        @*) mapfile -t COMPREPLY < <(compgen -W "$(_ciliumpy_names "${1#@}" "${words[@]:1}")" -- "$current") ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
            [[ "${COMPREPLY[0]-}" == *= ]] && ((${#COMPREPLY[@]} == 1)) && compopt -o nospace 2>/dev/null
            ;;
    esac
    if [[ "$current" == *:* && "${COMP_WORDBREAKS-}" == *:* ]]; then
        cut="${current%"${current##*:}"}"
        COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    fi
}

_ciliumpy() {
    local line="${COMP_LINE:0:COMP_POINT}" current path="" word="" skip=0 given=0 i
    local -a words
    read -ra words <<<"$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    current="${words[-1]}"
    COMPREPLY=()
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word="${words[i]}"
        if ((skip)); then
            skip=0
            continue
        fi
        case "$word" in
            --) return ;;
            ls) path="${path:+$path }list" ;;
            -*) [[ "$(_ciliumpy_value "$path:$word")" ]] && skip=1 ;;
            *)
                if [[ " $(_ciliumpy_words "$path") " == *" $word "* ]]; then
                    path="${path:+$path }$word"
                else
                    given=$((given + 1))
                fi
                ;;
        esac
    done
    if ((skip)); then
        _ciliumpy_offer "$(_ciliumpy_value "$path:$word")"
    elif [[ "$current" == -* ]]; then
        _ciliumpy_offer "$(_ciliumpy_flags "$path")"
    else
        word="$(_ciliumpy_words "$path")"
        _ciliumpy_offer "${word:-$(_ciliumpy_value "$path:$given")}"
    fi
    return 0
}

_ciliumpy_words() {
    case "$1" in
        "")
            echo "status observe hubble monitor endpoint identity policy ip node bpf preflight lab connectivity statedb config completion version" ;;
        "hubble")
            echo "observe status list watch" ;;
        "hubble list")
            echo "nodes namespaces" ;;
        "hubble watch")
            echo "peers" ;;
        "endpoint")
            echo "list get config" ;;
        "identity" |\
            "ip" |\
            "bpf endpoint" |\
            "bpf identity" |\
            "bpf metrics" |\
            "bpf policy")
            echo "list get" ;;
        "policy")
            echo "list get selectors import delete wait validate" ;;
        "node" |\
            "bpf config" |\
            "bpf frag")
            echo "list" ;;
        "bpf")
            echo "map ct endpoint ipcache identity config frag metrics policy" ;;
        "bpf map")
            echo "list dump get" ;;
        "bpf ct")
            echo "list get flush" ;;
        "bpf ipcache")
            echo "list get match" ;;
        "lab")
            echo "demo up status apply delete exec run logs start stop down" ;;
        "connectivity")
            echo "test" ;;
        "statedb")
            echo "tables dump watch" ;;
        "config")
            echo "list get set explain" ;;
    esac
}

_ciliumpy_flags() {
    case "$1" in
        "" |\
            "hubble" |\
            "hubble status" |\
            "hubble list" |\
            "hubble list nodes" |\
            "hubble list namespaces" |\
            "hubble watch" |\
            "endpoint" |\
            "endpoint get" |\
            "endpoint config" |\
            "identity" |\
            "identity list" |\
            "identity get" |\
            "policy" |\
            "policy selectors" |\
            "ip" |\
            "ip get" |\
            "node" |\
            "node list" |\
            "bpf" |\
            "bpf map" |\
            "bpf map list" |\
            "bpf map dump" |\
            "bpf map get" |\
            "bpf ct" |\
            "bpf endpoint" |\
            "bpf endpoint list" |\
            "bpf endpoint get" |\
            "bpf ipcache" |\
            "bpf ipcache list" |\
            "bpf ipcache get" |\
            "bpf ipcache match" |\
            "bpf identity" |\
            "bpf identity list" |\
            "bpf identity get" |\
            "bpf config" |\
            "bpf config list" |\
            "bpf frag" |\
            "bpf frag list" |\
            "bpf metrics" |\
            "bpf metrics list" |\
            "bpf metrics get" |\
            "bpf policy" |\
            "bpf policy list" |\
            "bpf policy get" |\
            "lab" |\
            "connectivity" |\
            "statedb" |\
            "statedb tables" |\
            "statedb dump" |\
            "statedb watch" |\
            "config" |\
            "config get" |\
            "config set" |\
            "config explain" |\
            "version")
            echo "--lab --node --output -o --help -h" ;;
        "status")
            echo "--verbose -v --brief --wait --wait-duration --lab --node --output -o --help -h" ;;
        "observe" |\
            "hubble observe")
            echo "--last --first --all --since --until --follow -f --input-file --not --verdict --type -t --pod --from-pod --to-pod --namespace -n --from-namespace --to-namespace --all-namespaces -A --from-all-namespaces --to-all-namespaces --label -l --from-label --to-label --identity --from-identity --to-identity --ip --from-ip --to-ip --port --from-port --to-port --workload --from-workload --to-workload --cluster --from-cluster --to-cluster --protocol --tcp-flags --ipv4 -4 --ipv6 -6 --ip-version --reply --traffic-direction --drop-reason-desc --node-name --node-label --interface --encrypted --unencrypted --uuid --service --from-service --to-service --fqdn --from-fqdn --to-fqdn --snat-ip --http-status --http-method --http-path --http-url --http-header --trace-id --ip-trace-id --cel-expression --allowlist --denylist --print-raw-filters --field-mask --output -o --print-node-name --print-policy-names --ip-translation --no-ip-translation --numeric --time-format --color --silent-errors -s --lab --node --help -h" ;;
        "hubble watch peers")
            echo "--lab --node --help -h" ;;
        "monitor")
            echo "--type -t --from --to --related-to --numeric -n --verbose -v --json -j --output -o --direct --lab --node --help -h" ;;
        "endpoint list")
            echo "--namespace -n --labels -l --lab --node --output -o --help -h" ;;
        "policy list" |\
            "policy get")
            echo "--namespace -n --lab --node --output -o --help -h" ;;
        "policy import")
            echo "--no-wait --wait --timeout --lab --node --output -o --help -h" ;;
        "policy delete")
            echo "--file -f --namespace -n --no-wait --wait --timeout --lab --node --output -o --help -h" ;;
        "policy wait")
            echo "--revision --gone --timeout --namespace -n --lab --node --help -h" ;;
        "policy validate")
            echo "--strict --quiet -q --config --set --output -o --help -h" ;;
        "ip list")
            echo "--labels -l --identity --numeric -n --lab --node --output -o --help -h" ;;
        "bpf ct list")
            echo "--time-diff -d --ip --endpoint --port --protocol --lab --node --output -o --help -h" ;;
        "bpf ct get")
            echo "--protocol --lab --node --output -o --help -h" ;;
        "bpf ct flush")
            echo "--ip --endpoint --port --protocol --force --yes -f -y --lab --node --output -o --help -h" ;;
        "preflight")
            echo "--output -o --help -h" ;;
        "lab demo" |\
            "completion")
            echo "--help -h" ;;
        "lab up")
            echo "--file -f --lab --help -h" ;;
        "lab status")
            echo "--lab --output -o --help -h" ;;
        "lab apply")
            echo "--file -f --no-wait --wait --timeout --lab --help -h" ;;
        "lab delete")
            echo "--file -f --namespace -n --no-wait --wait --lab --help -h" ;;
        "lab exec")
            echo "--stdin -i --tty -t --lab --help -h" ;;
        "lab run")
            echo "--stdin -i --tty -t --rm --namespace -n --node --labels -l --env --port --restart --timeout --lab --help -h" ;;
        "lab logs")
            echo "--follow -f --tail --lab --help -h" ;;
        "lab start" |\
            "lab stop" |\
            "lab down")
            echo "--lab --help -h" ;;
        "connectivity test")
            echo "--test --list --fail-fast --junit-file --timeout --request-timeout --concurrency --verbose -v --output -o --lab --help -h" ;;
        "config list")
            echo "--changed --lab --node --output -o --help -h" ;;
    esac
}

_ciliumpy_value() {
    case "$1" in
        ":--lab" |\
            "status:--lab" |\
            "observe:--lab" |\
            "hubble:--lab" |\
            "hubble observe:--lab" |\
            "hubble status:--lab" |\
            "hubble list:--lab" |\
            "hubble list nodes:--lab" |\
            "hubble list namespaces:--lab" |\
            "hubble watch:--lab" |\
            "hubble watch peers:--lab" |\
            "monitor:--lab" |\
            "endpoint:--lab" |\
            "endpoint list:--lab" |\
            "endpoint get:--lab" |\
            "endpoint config:--lab" |\
            "identity:--lab" |\
            "identity list:--lab" |\
            "identity get:--lab" |\
            "policy:--lab" |\
            "policy list:--lab" |\
            "policy get:--lab" |\
            "policy selectors:--lab" |\
            "policy import:--lab" |\
            "policy delete:--lab" |\
            "policy wait:--lab" |\
            "ip:--lab" |\
            "ip list:--lab" |\
            "ip get:--lab" |\
            "node:--lab" |\
            "node list:--lab" |\
            "bpf:--lab" |\
            "bpf map:--lab" |\
            "bpf map list:--lab" |\
            "bpf map dump:--lab" |\
            "bpf map get:--lab" |\
            "bpf ct:--lab" |\
            "bpf ct list:--lab" |\
            "bpf ct get:--lab" |\
            "bpf ct flush:--lab" |\
            "bpf endpoint:--lab" |\
            "bpf endpoint list:--lab" |\
            "bpf endpoint get:--lab" |\
            "bpf ipcache:--lab" |\
            "bpf ipcache list:--lab" |\
            "bpf ipcache get:--lab" |\
            "bpf ipcache match:--lab" |\
            "bpf identity:--lab" |\
            "bpf identity list:--lab" |\
            "bpf identity get:--lab" |\
            "bpf config:--lab" |\
            "bpf config list:--lab" |\
            "bpf frag:--lab" |\
            "bpf frag list:--lab" |\
            "bpf metrics:--lab" |\
            "bpf metrics list:--lab" |\
            "bpf metrics get:--lab" |\
            "bpf policy:--lab" |\
            "bpf policy list:--lab" |\
            "bpf policy get:--lab" |\
            "lab:--lab" |\
            "lab up:--lab" |\
            "lab status:--lab" |\
            "lab apply:--lab" |\
            "lab delete:--lab" |\
            "lab exec:--lab" |\
            "lab run:--lab" |\
            "lab logs:--lab" |\
            "lab start:--lab" |\
            "lab stop:--lab" |\
            "lab down:--lab" |\
            "connectivity:--lab" |\
            "connectivity test:--lab" |\
            "statedb:--lab" |\
            "statedb tables:--lab" |\
            "statedb dump:--lab" |\
            "statedb watch:--lab" |\
            "config:--lab" |\
            "config list:--lab" |\
            "config get:--lab" |\
            "config set:--lab" |\
            "config explain:--lab" |\
            "version:--lab" |\
            "lab down:0")
            echo "@labs" ;;
        ":--node" |\
            "status:--node" |\
            "observe:--node" |\
            "hubble:--node" |\
            "hubble observe:--node" |\
            "hubble status:--node" |\
            "hubble list:--node" |\
            "hubble list nodes:--node" |\
            "hubble list namespaces:--node" |\
            "hubble watch:--node" |\
            "hubble watch peers:--node" |\
            "monitor:--node" |\
            "endpoint:--node" |\
            "endpoint list:--node" |\
            "endpoint get:--node" |\
            "endpoint config:--node" |\
            "identity:--node" |\
            "identity list:--node" |\
            "identity get:--node" |\
            "policy:--node" |\
            "policy list:--node" |\
            "policy get:--node" |\
            "policy selectors:--node" |\
            "policy import:--node" |\
            "policy delete:--node" |\
            "policy wait:--node" |\
            "ip:--node" |\
            "ip list:--node" |\
            "ip get:--node" |\
            "node:--node" |\
            "node list:--node" |\
            "bpf:--node" |\
            "bpf map:--node" |\
            "bpf map list:--node" |\
            "bpf map dump:--node" |\
            "bpf map get:--node" |\
            "bpf ct:--node" |\
            "bpf ct list:--node" |\
            "bpf ct get:--node" |\
            "bpf ct flush:--node" |\
            "bpf endpoint:--node" |\
            "bpf endpoint list:--node" |\
            "bpf endpoint get:--node" |\
            "bpf ipcache:--node" |\
            "bpf ipcache list:--node" |\
            "bpf ipcache get:--node" |\
            "bpf ipcache match:--node" |\
            "bpf identity:--node" |\
            "bpf identity list:--node" |\
            "bpf identity get:--node" |\
            "bpf config:--node" |\
            "bpf config list:--node" |\
            "bpf frag:--node" |\
            "bpf frag list:--node" |\
            "bpf metrics:--node" |\
            "bpf metrics list:--node" |\
            "bpf metrics get:--node" |\
            "bpf policy:--node" |\
            "bpf policy list:--node" |\
            "bpf policy get:--node" |\
            "lab:--node" |\
            "lab run:--node" |\
            "connectivity:--node" |\
            "statedb:--node" |\
            "statedb tables:--node" |\
            "statedb dump:--node" |\
            "statedb watch:--node" |\
            "config:--node" |\
            "config list:--node" |\
            "config get:--node" |\
            "config set:--node" |\
            "config explain:--node" |\
            "version:--node" |\
            "lab start:0" |\
            "lab start:1" |\
            "lab start:2" |\
            "lab start:3" |\
            "lab start:4" |\
            "lab start:5" |\
            "lab start:6" |\
            "lab start:7" |\
            "lab stop:0" |\
            "lab stop:1" |\
            "lab stop:2" |\
            "lab stop:3" |\
            "lab stop:4" |\
            "lab stop:5" |\
            "lab stop:6" |\
            "lab stop:7")
            echo "@nodes" ;;
        ":--output" |\
            ":-o" |\
            "status:--output" |\
            "status:-o" |\
            "hubble:--output" |\
            "hubble:-o" |\
            "hubble list:--output" |\
            "hubble list:-o" |\
            "hubble list nodes:--output" |\
            "hubble list nodes:-o" |\
            "hubble list namespaces:--output" |\
            "hubble list namespaces:-o" |\
            "hubble watch:--output" |\
            "hubble watch:-o" |\
            "endpoint:--output" |\
            "endpoint:-o" |\
            "endpoint list:--output" |\
            "endpoint list:-o" |\
            "endpoint get:--output" |\
            "endpoint get:-o" |\
            "endpoint config:--output" |\
            "endpoint config:-o" |\
            "identity:--output" |\
            "identity:-o" |\
            "identity list:--output" |\
            "identity list:-o" |\
            "identity get:--output" |\
            "identity get:-o" |\
            "policy:--output" |\
            "policy:-o" |\
            "policy list:--output" |\
            "policy list:-o" |\
            "policy get:--output" |\
            "policy get:-o" |\
            "policy selectors:--output" |\
            "policy selectors:-o" |\
            "policy import:--output" |\
            "policy import:-o" |\
            "policy delete:--output" |\
            "policy delete:-o" |\
            "ip:--output" |\
            "ip:-o" |\
            "ip list:--output" |\
            "ip list:-o" |\
            "ip get:--output" |\
            "ip get:-o" |\
            "node:--output" |\
            "node:-o" |\
            "node list:--output" |\
            "node list:-o" |\
            "bpf:--output" |\
            "bpf:-o" |\
            "bpf map:--output" |\
            "bpf map:-o" |\
            "bpf map list:--output" |\
            "bpf map list:-o" |\
            "bpf map dump:--output" |\
            "bpf map dump:-o" |\
            "bpf map get:--output" |\
            "bpf map get:-o" |\
            "bpf ct:--output" |\
            "bpf ct:-o" |\
            "bpf ct list:--output" |\
            "bpf ct list:-o" |\
            "bpf ct get:--output" |\
            "bpf ct get:-o" |\
            "bpf ct flush:--output" |\
            "bpf ct flush:-o" |\
            "bpf endpoint:--output" |\
            "bpf endpoint:-o" |\
            "bpf endpoint list:--output" |\
            "bpf endpoint list:-o" |\
            "bpf endpoint get:--output" |\
            "bpf endpoint get:-o" |\
            "bpf ipcache:--output" |\
            "bpf ipcache:-o" |\
            "bpf ipcache list:--output" |\
            "bpf ipcache list:-o" |\
            "bpf ipcache get:--output" |\
            "bpf ipcache get:-o" |\
            "bpf ipcache match:--output" |\
            "bpf ipcache match:-o" |\
            "bpf identity:--output" |\
            "bpf identity:-o" |\
            "bpf identity list:--output" |\
            "bpf identity list:-o" |\
            "bpf identity get:--output" |\
            "bpf identity get:-o" |\
            "bpf config:--output" |\
            "bpf config:-o" |\
            "bpf config list:--output" |\
            "bpf config list:-o" |\
            "bpf frag:--output" |\
            "bpf frag:-o" |\
            "bpf frag list:--output" |\
            "bpf frag list:-o" |\
            "bpf metrics:--output" |\
            "bpf metrics:-o" |\
            "bpf metrics list:--output" |\
            "bpf metrics list:-o" |\
            "bpf metrics get:--output" |\
            "bpf metrics get:-o" |\
            "bpf policy:--output" |\
            "bpf policy:-o" |\
            "bpf policy list:--output" |\
            "bpf policy list:-o" |\
            "bpf policy get:--output" |\
            "bpf policy get:-o" |\
            "preflight:--output" |\
            "preflight:-o" |\
            "lab:--output" |\
            "lab:-o" |\
            "lab status:--output" |\
            "lab status:-o" |\
            "connectivity:--output" |\
            "connectivity:-o" |\
            "statedb:--output" |\
            "statedb:-o" |\
            "statedb tables:--output" |\
            "statedb tables:-o" |\
            "statedb dump:--output" |\
            "statedb dump:-o" |\
            "config:--output" |\
            "config:-o" |\
            "config list:--output" |\
            "config list:-o" |\
            "config get:--output" |\
            "config get:-o" |\
            "config set:--output" |\
            "config set:-o" |\
            "config explain:--output" |\
            "config explain:-o" |\
            "version:--output" |\
            "version:-o")
            echo "text wide json yaml jsonpath= name" ;;
        "status:--wait-duration" |\
            "observe:--last" |\
            "observe:--first" |\
            "observe:--since" |\
            "observe:--until" |\
            "observe:--namespace" |\
            "observe:-n" |\
            "observe:--from-namespace" |\
            "observe:--to-namespace" |\
            "observe:--label" |\
            "observe:-l" |\
            "observe:--from-label" |\
            "observe:--to-label" |\
            "observe:--port" |\
            "observe:--from-port" |\
            "observe:--to-port" |\
            "observe:--workload" |\
            "observe:--from-workload" |\
            "observe:--to-workload" |\
            "observe:--cluster" |\
            "observe:--from-cluster" |\
            "observe:--to-cluster" |\
            "observe:--protocol" |\
            "observe:--tcp-flags" |\
            "observe:--node-name" |\
            "observe:--node-label" |\
            "observe:--uuid" |\
            "observe:--fqdn" |\
            "observe:--from-fqdn" |\
            "observe:--to-fqdn" |\
            "observe:--http-status" |\
            "observe:--http-method" |\
            "observe:--http-path" |\
            "observe:--http-url" |\
            "observe:--http-header" |\
            "observe:--trace-id" |\
            "observe:--ip-trace-id" |\
            "observe:--cel-expression" |\
            "observe:--allowlist" |\
            "observe:--denylist" |\
            "observe:--field-mask" |\
            "observe:--time-format" |\
            "hubble observe:--last" |\
            "hubble observe:--first" |\
            "hubble observe:--since" |\
            "hubble observe:--until" |\
            "hubble observe:--namespace" |\
            "hubble observe:-n" |\
            "hubble observe:--from-namespace" |\
            "hubble observe:--to-namespace" |\
            "hubble observe:--label" |\
            "hubble observe:-l" |\
            "hubble observe:--from-label" |\
            "hubble observe:--to-label" |\
            "hubble observe:--port" |\
            "hubble observe:--from-port" |\
            "hubble observe:--to-port" |\
            "hubble observe:--workload" |\
            "hubble observe:--from-workload" |\
            "hubble observe:--to-workload" |\
            "hubble observe:--cluster" |\
            "hubble observe:--from-cluster" |\
            "hubble observe:--to-cluster" |\
            "hubble observe:--protocol" |\
            "hubble observe:--tcp-flags" |\
            "hubble observe:--node-name" |\
            "hubble observe:--node-label" |\
            "hubble observe:--uuid" |\
            "hubble observe:--fqdn" |\
            "hubble observe:--from-fqdn" |\
            "hubble observe:--to-fqdn" |\
            "hubble observe:--http-status" |\
            "hubble observe:--http-method" |\
            "hubble observe:--http-path" |\
            "hubble observe:--http-url" |\
            "hubble observe:--http-header" |\
            "hubble observe:--trace-id" |\
            "hubble observe:--ip-trace-id" |\
            "hubble observe:--cel-expression" |\
            "hubble observe:--allowlist" |\
            "hubble observe:--denylist" |\
            "hubble observe:--field-mask" |\
            "hubble observe:--time-format" |\
            "endpoint list:--labels" |\
            "endpoint list:-l" |\
            "policy import:--timeout" |\
            "policy delete:--timeout" |\
            "policy wait:--revision" |\
            "policy wait:--timeout" |\
            "policy validate:--set" |\
            "ip list:--labels" |\
            "ip list:-l" |\
            "bpf ct list:--ip" |\
            "bpf ct list:--port" |\
            "bpf ct list:--protocol" |\
            "bpf ct get:--protocol" |\
            "bpf ct flush:--ip" |\
            "bpf ct flush:--port" |\
            "bpf ct flush:--protocol" |\
            "lab apply:--timeout" |\
            "lab run:--labels" |\
            "lab run:-l" |\
            "lab run:--env" |\
            "lab run:--port" |\
            "lab run:--timeout" |\
            "lab logs:--tail" |\
            "connectivity test:--test" |\
            "connectivity test:--timeout" |\
            "connectivity test:--request-timeout" |\
            "connectivity test:--concurrency")
            echo "any" ;;
        "observe:--input-file" |\
            "hubble observe:--input-file" |\
            "policy delete:--file" |\
            "policy delete:-f" |\
            "policy validate:--config" |\
            "lab up:--file" |\
            "lab up:-f" |\
            "lab apply:--file" |\
            "lab apply:-f" |\
            "lab delete:--file" |\
            "lab delete:-f" |\
            "connectivity test:--junit-file")
            echo "file" ;;
        "observe:--verdict" |\
            "hubble observe:--verdict")
            echo "FORWARDED DROPPED AUDIT REDIRECTED ERROR" ;;
        "observe:--type" |\
            "observe:-t" |\
            "hubble observe:--type" |\
            "hubble observe:-t" |\
            "monitor:--type" |\
            "monitor:-t")
            echo "drop trace policy-verdict" ;;
        "observe:--pod" |\
            "observe:--from-pod" |\
            "observe:--to-pod" |\
            "observe:--service" |\
            "observe:--from-service" |\
            "observe:--to-service" |\
            "hubble observe:--pod" |\
            "hubble observe:--from-pod" |\
            "hubble observe:--to-pod" |\
            "hubble observe:--service" |\
            "hubble observe:--from-service" |\
            "hubble observe:--to-service" |\
            "lab exec:0")
            echo "@pods" ;;
        "observe:--identity" |\
            "observe:--from-identity" |\
            "observe:--to-identity" |\
            "hubble observe:--identity" |\
            "hubble observe:--from-identity" |\
            "hubble observe:--to-identity" |\
            "ip list:--identity" |\
            "identity get:0" |\
            "bpf ipcache match:0" |\
            "bpf identity get:0")
            echo "@identities" ;;
        "observe:--ip" |\
            "observe:--from-ip" |\
            "observe:--to-ip" |\
            "observe:--snat-ip" |\
            "hubble observe:--ip" |\
            "hubble observe:--from-ip" |\
            "hubble observe:--to-ip" |\
            "hubble observe:--snat-ip" |\
            "ip get:0" |\
            "bpf ct get:0" |\
            "bpf ct get:1" |\
            "bpf ipcache get:0")
            echo "@addresses" ;;
        "observe:--ip-version" |\
            "hubble observe:--ip-version")
            echo "none v4 v6" ;;
        "observe:--traffic-direction" |\
            "hubble observe:--traffic-direction")
            echo "ingress egress" ;;
        "observe:--drop-reason-desc" |\
            "hubble observe:--drop-reason-desc" |\
            "bpf metrics get:0")
            echo "@reasons" ;;
        "observe:--interface" |\
            "hubble observe:--interface")
            echo "NAME INDEX" ;;
        "observe:--output" |\
            "observe:-o" |\
            "hubble observe:--output" |\
            "hubble observe:-o")
            echo "compact dict json jsonpb table" ;;
        "observe:--color" |\
            "hubble observe:--color")
            echo "auto always never" ;;
        "hubble status:--output" |\
            "hubble status:-o")
            echo "compact json" ;;
        "monitor:--from" |\
            "monitor:--to" |\
            "monitor:--related-to" |\
            "bpf ct list:--endpoint" |\
            "bpf ct flush:--endpoint" |\
            "bpf endpoint get:0")
            echo "@endpoints" ;;
        "monitor:--output" |\
            "monitor:-o" |\
            "connectivity test:--output" |\
            "connectivity test:-o" |\
            "statedb watch:--output" |\
            "statedb watch:-o")
            echo "text json" ;;
        "endpoint list:--namespace" |\
            "endpoint list:-n" |\
            "policy list:--namespace" |\
            "policy list:-n" |\
            "policy get:--namespace" |\
            "policy get:-n" |\
            "policy delete:--namespace" |\
            "policy delete:-n" |\
            "policy wait:--namespace" |\
            "policy wait:-n" |\
            "lab delete:--namespace" |\
            "lab delete:-n" |\
            "lab run:--namespace" |\
            "lab run:-n")
            echo "@namespaces" ;;
        "policy validate:--output" |\
            "policy validate:-o")
            echo "text json yaml jsonpath= name sarif" ;;
        "lab run:--restart")
            echo "Always OnFailure Never" ;;
        "endpoint get:0" |\
            "endpoint config:0" |\
            "bpf policy list:0" |\
            "bpf policy get:0")
            echo "@endpoints-or-pods" ;;
        "policy get:0" |\
            "policy delete:0" |\
            "policy delete:1" |\
            "policy delete:2" |\
            "policy delete:3" |\
            "policy delete:4" |\
            "policy delete:5" |\
            "policy delete:6" |\
            "policy delete:7" |\
            "policy wait:0")
            echo "@policies" ;;
        "bpf map dump:0" |\
            "bpf map get:0")
            echo "@maps" ;;
        "lab logs:0")
            echo "@nodes-or-pods" ;;
        "statedb dump:0" |\
            "statedb watch:0")
            echo "@tables" ;;
        "config get:0" |\
            "config set:0" |\
            "config explain:0")
            echo "@settings" ;;
        "completion:0")
            echo "bash zsh fish" ;;
    esac
}

complete -F _ciliumpy ciliumpy
