# SPDX-License-Identifier: Apache-2.0
# bash completion for ciliumpy. Made from the command tree; `python -m ciliumpy.cli.completions` makes it anew.

_ciliumpy() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="" path="" word skip=0 i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        previous="$word"
        if ((skip)); then
            skip=0
            continue
        fi
        case "$word" in
            --) return ;;
            ls) path="${path:+$path }list" ;;
            -*) [[ "$(_ciliumpy_value "$path" "$word")" ]] && skip=1 ;;
            *) [[ " $(_ciliumpy_words "$path") " == *" $word "* ]] && path="${path:+$path }$word" ;;
        esac
    done
    if ((skip)); then
        case "$(_ciliumpy_value "$path" "$previous")" in
            file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
            any) ;;
            *)
                mapfile -t COMPREPLY < <(compgen -W "$(_ciliumpy_value "$path" "$previous")" -- "$current")
                [[ "${COMPREPLY[0]}" == *= ]] && ((${#COMPREPLY[@]} == 1)) && compopt -o nospace 2>/dev/null
                ;;
        esac
        return
    fi
    if [[ "$current" == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_ciliumpy_flags "$path")" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -W "$(_ciliumpy_words "$path")" -- "$current")
    fi
}

_ciliumpy_words() {
    case "$1" in
        "")
            echo "status observe monitor endpoint identity policy ip node bpf preflight lab connectivity statedb config completion version" ;;
        "endpoint" |\
            "identity" |\
            "policy" |\
            "ip" |\
            "bpf endpoint" |\
            "bpf identity" |\
            "bpf metrics" |\
            "bpf policy")
            echo "list get" ;;
        "node")
            echo "list" ;;
        "bpf")
            echo "map ct endpoint ipcache identity metrics policy" ;;
        "bpf map")
            echo "list dump get" ;;
        "bpf ct")
            echo "list get flush" ;;
        "bpf endpoint get")
            echo "NODE:]ID ADDRESS" ;;
        "bpf ipcache")
            echo "list get match" ;;
        "lab")
            echo "demo up status apply delete exec run logs start stop down" ;;
        "lab logs")
            echo "NODE [NAMESPACE/]POD" ;;
        "connectivity")
            echo "test" ;;
        "statedb")
            echo "tables dump" ;;
        "config")
            echo "list get set explain" ;;
        "completion")
            echo "bash zsh" ;;
    esac
}

_ciliumpy_flags() {
    case "$1" in
        "" |\
            "endpoint" |\
            "identity" |\
            "policy" |\
            "ip" |\
            "node" |\
            "bpf" |\
            "bpf map" |\
            "bpf ct" |\
            "bpf endpoint" |\
            "bpf ipcache" |\
            "bpf identity" |\
            "bpf metrics" |\
            "bpf policy" |\
            "lab" |\
            "lab demo" |\
            "connectivity" |\
            "statedb" |\
            "config" |\
            "completion")
            echo "--help -h" ;;
        "status")
            echo "--verbose -v --brief --wait --wait-duration --lab --node --output -o --help -h" ;;
        "observe")
            echo "--last --first --all --since --until --follow -f --input-file --not --verdict --type -t --pod --from-pod --to-pod --namespace -n --from-namespace --to-namespace --all-namespaces -A --from-all-namespaces --to-all-namespaces --label -l --from-label --to-label --identity --from-identity --to-identity --ip --from-ip --to-ip --port --from-port --to-port --workload --from-workload --to-workload --cluster --from-cluster --to-cluster --protocol --tcp-flags --ipv4 -4 --ipv6 -6 --ip-version --reply --traffic-direction --drop-reason-desc --node-name --node-label --interface --encrypted --unencrypted --uuid --service --from-service --to-service --fqdn --from-fqdn --to-fqdn --snat-ip --http-status --http-method --http-path --http-url --http-header --trace-id --ip-trace-id --cel-expression --allowlist --denylist --print-raw-filters --field-mask --output -o --print-node-name --print-policy-names --ip-translation --no-ip-translation --numeric --time-format --color --silent-errors -s --lab --node --help -h" ;;
        "monitor")
            echo "--type -t --from --to --related-to --numeric -n --verbose -v --json -j --output -o --direct --lab --node --help -h" ;;
        "endpoint list")
            echo "--namespace -n --labels -l --lab --node --output -o --help -h" ;;
        "endpoint get" |\
            "identity list" |\
            "identity get" |\
            "ip get" |\
            "node list" |\
            "bpf map list" |\
            "bpf map dump" |\
            "bpf map get" |\
            "bpf endpoint list" |\
            "bpf endpoint get" |\
            "bpf ipcache list" |\
            "bpf ipcache get" |\
            "bpf ipcache match" |\
            "bpf identity list" |\
            "bpf identity get" |\
            "bpf metrics list" |\
            "bpf metrics get" |\
            "bpf policy list" |\
            "bpf policy get" |\
            "statedb tables" |\
            "statedb dump" |\
            "config get" |\
            "config set" |\
            "config explain" |\
            "version")
            echo "--lab --node --output -o --help -h" ;;
        "policy list" |\
            "policy get")
            echo "--namespace -n --lab --node --output -o --help -h" ;;
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
    case "$1:$2" in
        "status:--wait-duration" |\
            "status:--lab" |\
            "status:--node" |\
            "observe:--last" |\
            "observe:--first" |\
            "observe:--since" |\
            "observe:--until" |\
            "observe:--pod" |\
            "observe:--from-pod" |\
            "observe:--to-pod" |\
            "observe:--namespace" |\
            "observe:-n" |\
            "observe:--from-namespace" |\
            "observe:--to-namespace" |\
            "observe:--label" |\
            "observe:-l" |\
            "observe:--from-label" |\
            "observe:--to-label" |\
            "observe:--identity" |\
            "observe:--from-identity" |\
            "observe:--to-identity" |\
            "observe:--ip" |\
            "observe:--from-ip" |\
            "observe:--to-ip" |\
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
            "observe:--drop-reason-desc" |\
            "observe:--node-name" |\
            "observe:--node-label" |\
            "observe:--uuid" |\
            "observe:--service" |\
            "observe:--from-service" |\
            "observe:--to-service" |\
            "observe:--fqdn" |\
            "observe:--from-fqdn" |\
            "observe:--to-fqdn" |\
            "observe:--snat-ip" |\
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
            "observe:--lab" |\
            "observe:--node" |\
            "monitor:--from" |\
            "monitor:--to" |\
            "monitor:--related-to" |\
            "monitor:--lab" |\
            "monitor:--node" |\
            "endpoint list:--namespace" |\
            "endpoint list:-n" |\
            "endpoint list:--labels" |\
            "endpoint list:-l" |\
            "endpoint list:--lab" |\
            "endpoint list:--node" |\
            "endpoint get:--lab" |\
            "endpoint get:--node" |\
            "identity list:--lab" |\
            "identity list:--node" |\
            "identity get:--lab" |\
            "identity get:--node" |\
            "policy list:--namespace" |\
            "policy list:-n" |\
            "policy list:--lab" |\
            "policy list:--node" |\
            "policy get:--namespace" |\
            "policy get:-n" |\
            "policy get:--lab" |\
            "policy get:--node" |\
            "ip list:--labels" |\
            "ip list:-l" |\
            "ip list:--identity" |\
            "ip list:--lab" |\
            "ip list:--node" |\
            "ip get:--lab" |\
            "ip get:--node" |\
            "node list:--lab" |\
            "node list:--node" |\
            "bpf map list:--lab" |\
            "bpf map list:--node" |\
            "bpf map dump:--lab" |\
            "bpf map dump:--node" |\
            "bpf map get:--lab" |\
            "bpf map get:--node" |\
            "bpf ct list:--ip" |\
            "bpf ct list:--endpoint" |\
            "bpf ct list:--port" |\
            "bpf ct list:--protocol" |\
            "bpf ct list:--lab" |\
            "bpf ct list:--node" |\
            "bpf ct get:--protocol" |\
            "bpf ct get:--lab" |\
            "bpf ct get:--node" |\
            "bpf ct flush:--ip" |\
            "bpf ct flush:--endpoint" |\
            "bpf ct flush:--port" |\
            "bpf ct flush:--protocol" |\
            "bpf ct flush:--lab" |\
            "bpf ct flush:--node" |\
            "bpf endpoint list:--lab" |\
            "bpf endpoint list:--node" |\
            "bpf endpoint get:--lab" |\
            "bpf endpoint get:--node" |\
            "bpf ipcache list:--lab" |\
            "bpf ipcache list:--node" |\
            "bpf ipcache get:--lab" |\
            "bpf ipcache get:--node" |\
            "bpf ipcache match:--lab" |\
            "bpf ipcache match:--node" |\
            "bpf identity list:--lab" |\
            "bpf identity list:--node" |\
            "bpf identity get:--lab" |\
            "bpf identity get:--node" |\
            "bpf metrics list:--lab" |\
            "bpf metrics list:--node" |\
            "bpf metrics get:--lab" |\
            "bpf metrics get:--node" |\
            "bpf policy list:--lab" |\
            "bpf policy list:--node" |\
            "bpf policy get:--lab" |\
            "bpf policy get:--node" |\
            "lab up:--lab" |\
            "lab status:--lab" |\
            "lab apply:--timeout" |\
            "lab apply:--lab" |\
            "lab delete:--namespace" |\
            "lab delete:-n" |\
            "lab delete:--lab" |\
            "lab exec:--lab" |\
            "lab run:--namespace" |\
            "lab run:-n" |\
            "lab run:--node" |\
            "lab run:--labels" |\
            "lab run:-l" |\
            "lab run:--env" |\
            "lab run:--port" |\
            "lab run:--timeout" |\
            "lab run:--lab" |\
            "lab logs:--tail" |\
            "lab logs:--lab" |\
            "lab start:--lab" |\
            "lab stop:--lab" |\
            "lab down:--lab" |\
            "connectivity test:--test" |\
            "connectivity test:--timeout" |\
            "connectivity test:--request-timeout" |\
            "connectivity test:--concurrency" |\
            "connectivity test:--lab" |\
            "statedb tables:--lab" |\
            "statedb tables:--node" |\
            "statedb dump:--lab" |\
            "statedb dump:--node" |\
            "config list:--lab" |\
            "config list:--node" |\
            "config get:--lab" |\
            "config get:--node" |\
            "config set:--lab" |\
            "config set:--node" |\
            "config explain:--lab" |\
            "config explain:--node" |\
            "version:--lab" |\
            "version:--node")
            echo "any" ;;
        "status:--output" |\
            "status:-o" |\
            "endpoint list:--output" |\
            "endpoint list:-o" |\
            "endpoint get:--output" |\
            "endpoint get:-o" |\
            "identity list:--output" |\
            "identity list:-o" |\
            "identity get:--output" |\
            "identity get:-o" |\
            "policy list:--output" |\
            "policy list:-o" |\
            "policy get:--output" |\
            "policy get:-o" |\
            "ip list:--output" |\
            "ip list:-o" |\
            "ip get:--output" |\
            "ip get:-o" |\
            "node list:--output" |\
            "node list:-o" |\
            "bpf map list:--output" |\
            "bpf map list:-o" |\
            "bpf map dump:--output" |\
            "bpf map dump:-o" |\
            "bpf map get:--output" |\
            "bpf map get:-o" |\
            "bpf ct list:--output" |\
            "bpf ct list:-o" |\
            "bpf ct get:--output" |\
            "bpf ct get:-o" |\
            "bpf ct flush:--output" |\
            "bpf ct flush:-o" |\
            "bpf endpoint list:--output" |\
            "bpf endpoint list:-o" |\
            "bpf endpoint get:--output" |\
            "bpf endpoint get:-o" |\
            "bpf ipcache list:--output" |\
            "bpf ipcache list:-o" |\
            "bpf ipcache get:--output" |\
            "bpf ipcache get:-o" |\
            "bpf ipcache match:--output" |\
            "bpf ipcache match:-o" |\
            "bpf identity list:--output" |\
            "bpf identity list:-o" |\
            "bpf identity get:--output" |\
            "bpf identity get:-o" |\
            "bpf metrics list:--output" |\
            "bpf metrics list:-o" |\
            "bpf metrics get:--output" |\
            "bpf metrics get:-o" |\
            "bpf policy list:--output" |\
            "bpf policy list:-o" |\
            "bpf policy get:--output" |\
            "bpf policy get:-o" |\
            "preflight:--output" |\
            "preflight:-o" |\
            "lab status:--output" |\
            "lab status:-o" |\
            "statedb tables:--output" |\
            "statedb tables:-o" |\
            "statedb dump:--output" |\
            "statedb dump:-o" |\
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
        "observe:--input-file" |\
            "lab up:--file" |\
            "lab up:-f" |\
            "lab apply:--file" |\
            "lab apply:-f" |\
            "lab delete:--file" |\
            "lab delete:-f" |\
            "connectivity test:--junit-file")
            echo "file" ;;
        "observe:--verdict")
            echo "FORWARDED DROPPED AUDIT REDIRECTED ERROR" ;;
        "observe:--type" |\
            "observe:-t" |\
            "monitor:--type" |\
            "monitor:-t")
            echo "drop trace policy-verdict" ;;
        "observe:--ip-version")
            echo "none v4 v6" ;;
        "observe:--traffic-direction")
            echo "ingress egress" ;;
        "observe:--interface")
            echo "NAME INDEX" ;;
        "observe:--output" |\
            "observe:-o")
            echo "compact dict json jsonpb table" ;;
        "observe:--color")
            echo "auto always never" ;;
        "monitor:--output" |\
            "monitor:-o")
            echo "text json" ;;
        "lab run:--restart")
            echo "Always OnFailure Never" ;;
        "connectivity test:--output" |\
            "connectivity test:-o")
            echo "text json" ;;
    esac
}

complete -F _ciliumpy ciliumpy
