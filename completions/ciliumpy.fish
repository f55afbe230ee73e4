# SPDX-License-Identifier: Apache-2.0
# fish completion for ciliumpy. Made from the command tree; `python -m ciliumpy.cli.completions` makes it anew.

function __ciliumpy_names
    set -l words (commandline -opc)
    $words[1] __complete $argv[1] $words[2..-1] "" 2>/dev/null
end

function __ciliumpy_values -a path what
    set -l value (__ciliumpy_value $path:$what)
    switch "$value[1]"
        case '@*'
            __ciliumpy_names (string replace @ '' -- $value[1])
        case file
            __fish_complete_path (commandline -ct)
        case any ''
        case '*'
            printf '%s\n' $value
    end
end

function __ciliumpy_offer
    set -l words (commandline -opc)
    set -l path
    set -l skip 0
    set -l given 0
    set -l last
    for word in $words[2..-1]
        set last $word
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --
                return
            case '-*'
                test -n "$(__ciliumpy_value "$path:$word")"; and set skip 1
            case ls
                set path (string trim -- "$path list")
            case '*'
                if __ciliumpy_words "$path" | string match -q -r "^$(string escape --style=regex -- $word)(\t|\$)"
                    set path (string trim -- "$path $word")
                else
                    set given (math $given + 1)
                end
        end
    end
    if test $skip = 1
        __ciliumpy_values "$path" $last
    else if string match -q -- '-*' (commandline -ct)
        __ciliumpy_flags "$path"
    else
        __ciliumpy_words "$path"
        __ciliumpy_values "$path" $given
    end
end

function __ciliumpy_words
    switch "$argv[1]"
        case ''
            printf '%s\n' 'status	Show how the agents are.' 'observe	Show flows: who talked to whom, and what was dropped.' 'hubble	What users of hubble type, of the same agents.' 'monitor	Show the datapath\'s events as they come.' 'endpoint	The pods that an agent has plugged in.' 'identity	Security identities.' 'policy	The policies in force.' 'ip	Which identity each address has.' 'node	The nodes of the cluster.' 'bpf	Read the pinned BPF maps directly (root).' 'preflight	Check what this machine has against what is needed.' 'lab	A cluster on this machine: nodes and pods in namespaces (root).' 'connectivity	Does the network do what policies say?' 'statedb	The agent\'s tables as they are.' 'config	The agents\' settings.' 'completion	Print the completion script of a shell.' 'version	Print the version of this command and of the agents.'
        case 'hubble'
            printf '%s\n' 'observe	Show flows: as `ciliumpy observe`.' 'status	Show how Hubble\'s servers are, and how many flows they keep.' 'list	What Hubble\'s servers know.' 'watch	What Hubble\'s servers tell of.'
        case 'hubble list'
            printf '%s\n' 'nodes	List the servers with their uptime and flows.' 'namespaces	List the namespaces seen in the last hour\'s flows.'
        case 'hubble watch'
            printf '%s\n' 'peers	Show the nodes that a server names, and what changes.'
        case 'endpoint'
            printf '%s\n' 'list	List the endpoints.' 'get	Show one endpoint.' 'config	Show or change an endpoint\'s options.'
        case 'identity'
            printf '%s\n' 'list	List the identities and their labels.' 'get	Show one identity.'
        case 'policy'
            printf '%s\n' 'list	List the policies, and what of them has no effect.' 'get	Show one policy as the agent has understood it.' 'selectors	List who meets which selector of a policy.' 'import	Put policies into the store: all, or none of them.' 'delete	Take policies out of the store.' 'wait	Wait until policies are in force on all nodes.' 'validate	Check manifests without an agent: every fault at once.'
        case 'ip'
            printf '%s\n' 'list	List the addresses with their identity and place.' 'get	Show which entry decides on an address.'
        case 'node'
            printf '%s\n' 'list	List the nodes, their addresses and pod ranges.'
        case 'bpf'
            printf '%s\n' 'map	Any pinned BPF map.' 'ct	Connection tracking.' 'endpoint	The datapath\'s endpoints.' 'ipcache	Addresses and identities.' 'identity	Identities and the selectors they meet.' 'config	What the programs were told.' 'frag	Datagrams in fragments.' 'metrics	Packets forwarded and dropped.' 'policy	Policy as the datapath judges by it.'
        case 'bpf map'
            printf '%s\n' 'list	List the pinned maps with their fill.' 'dump	Print a map, decoded by its own type information.' 'get	Show what a map is, or one row of it.'
        case 'bpf ct'
            printf '%s\n' 'list	List the flows the datapath knows.' 'get	Show the flows between two ends.' 'flush	Forget flows: they are judged anew.'
        case 'bpf endpoint'
            printf '%s\n' 'list	List the endpoints as the datapath has them.' 'get	Show one endpoint as the datapath has it.'
        case 'bpf ipcache'
            printf '%s\n' 'list	List which identity each address has, and where it is.' 'get	Show which entry decides on an address.' 'match	List the addresses that have an identity.'
        case 'bpf identity'
            printf '%s\n' 'list	List which selectors each identity meets.' 'get	Show which selectors one identity meets.'
        case 'bpf config'
            printf '%s\n' 'list	List the constants the programs were loaded with.'
        case 'bpf frag'
            printf '%s\n' 'list	List the datagrams whose fragments are followed.'
        case 'bpf metrics'
            printf '%s\n' 'list	List packets forwarded, and dropped by reason.' 'get	Show the packets dropped for one reason.'
        case 'bpf policy'
            printf '%s\n' 'list	List each policy set: direction, port, verdict, peers.' 'get	Show what one endpoint is judged by.'
        case 'lab'
            printf '%s\n' 'demo	Start the demo: two nodes, a policy, traffic, and what is seen of it.' 'up	Start a lab cluster, or bring it to what its file says.' 'status	Show the lab\'s nodes and pods.' 'apply	Apply manifests to the lab.' 'delete	Delete objects from the lab.' 'exec	Run a command in a pod.' 'run	Run a command, or a shell, in a new pod.' 'logs	Print what a pod\'s containers, or a node\'s agent, wrote.' 'start	Start the agents, or one node\'s.' 'stop	Stop the agents, or one node\'s; the pods run on.' 'down	Stop the lab and remove everything it made.'
        case 'connectivity'
            printf '%s\n' 'test	Try what policies allow and deny, with real clients in pods.'
        case 'statedb'
            printf '%s\n' 'tables	List the tables with their row counts.' 'dump	Print the rows of a table.' 'watch	Print the rows of a table, and then what changes.'
        case 'config'
            printf '%s\n' 'list	List the settings, and where each came from.' 'get	Show the value of one setting.' 'set	Change a setting while the agents run.' 'explain	Explain a setting, and why it is what it is.'
    end
end

function __ciliumpy_flags
    switch "$argv[1]"
        case '' 'hubble' 'hubble list' 'hubble watch' 'endpoint' 'identity' 'policy' 'ip' 'node' 'bpf' 'bpf map' 'bpf ct' 'bpf endpoint' 'bpf ipcache' 'bpf identity' 'bpf config' 'bpf frag' 'bpf metrics' 'bpf policy' 'lab' 'connectivity' 'statedb' 'config'
            printf '%s\n' '--lab	Ask this lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'status'
            printf '%s\n' '--verbose	Also every job, map and the loop\'s lag.' '-v	Also every job, map and the loop\'s lag.' '--brief	One line: OK, or what is wrong.' '--wait	Wait until all is well.' '--wait-duration	How long to wait at most.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'observe' 'hubble observe'
            printf '%s\n' '--last	The newest N (default 20); with -f of each node.' '--first	The oldest N.' '--all	Everything that is kept.' '--since	From then: 5m (back from now), or a date.' '--until	Until then.' '--follow	Go on with new ones.' '-f	Go on with new ones.' '--input-file	Read recorded flows; - is stdin.' '--not	Hide what the next filter matches.' '--verdict	So judged.' '--type	Also with :SUB, as trace:to-overlay.' '-t	Also with :SUB, as trace:to-overlay.' '--pod	From or to pods so named.' '--from-pod	From pods so named.' '--to-pod	To pods so named.' '--namespace	From or to the namespace.' '-n	From or to the namespace.' '--from-namespace	From the namespace.' '--to-namespace	To the namespace.' '--all-namespaces	Pods of any namespace.' '-A	Pods of any namespace.' '--from-all-namespaces	From pods of any namespace.' '--to-all-namespaces	To pods of any namespace.' '--label	From or to pods so labelled.' '-l	From or to pods so labelled.' '--from-label	From pods so labelled.' '--to-label	To pods so labelled.' '--identity	From or to it; number or name.' '--from-identity	From the identity.' '--to-identity	To the identity.' '--ip	From or to the address or prefix.' '--from-ip	From the address or prefix.' '--to-ip	To the address or prefix.' '--port	From or to the port.' '--from-port	From the port.' '--to-port	To the port.' '--workload	From or to it.' '--from-workload	From the workload.' '--to-workload	To the workload.' '--cluster	From or to the cluster.' '--from-cluster	From the cluster.' '--to-cluster	To the cluster.' '--protocol	tcp, udp, icmp, ...' '--tcp-flags	All of these: syn,ack.' '--ipv4	IPv4 only.' '-4	IPv4 only.' '--ipv6	IPv6 only.' '-6	IPv6 only.' '--ip-version	Of this IP version.' '--reply	Replies only; with --not none of them.' '--traffic-direction	As the pod sees it.' '--drop-reason-desc	As POLICY_DENIED.' '--node-name	Reported by the node.' '--node-label	Reported by a node so labelled.' '--interface	Come in at the interface.' '--encrypted	Encrypted on the wire.' '--unencrypted	Not encrypted on the wire.' '--uuid	The one event.' '--service	Recorded flows: from or to the service.' '--from-service	Recorded flows: from the service.' '--to-service	Recorded flows: to the service.' '--fqdn	Recorded flows: from or to the DNS name.' '--from-fqdn	Recorded flows: from the DNS name.' '--to-fqdn	Recorded flows: to the DNS name.' '--snat-ip	Recorded flows: translated to it.' '--http-status	Recorded flows: answered so; 5+ is 5xx.' '--http-method	Recorded flows: so asked.' '--http-path	Recorded flows: for such a path.' '--http-url	Recorded flows: for such a URL.' '--http-header	Recorded flows: with the header.' '--trace-id	Recorded flows: of the trace.' '--ip-trace-id	Recorded flows: so marked in IP.' '--cel-expression	Not supported; refused.' '--allowlist	A flow filter as JSON.' '--denylist	Hide what the filter matches.' '--print-raw-filters	Print the filters that the flags mean, and ask nobody.' '--field-mask	JSON with these fields only: time,source.identity.' '--output	How to print.' '-o	How to print.' '--print-node-name	Also the node that reported it.' '--print-policy-names	Also the policies that decided.' '--ip-translation	Names rather than addresses.' '--no-ip-translation	Names rather than addresses.' '--numeric	Addresses rather than names.' '--time-format	As RFC3339Milli.' '--color	Colours.' '--silent-errors	Nodes that fail: only the exit code tells.' '-s	Nodes that fail: only the exit code tells.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'hubble status' 'hubble list nodes' 'hubble list namespaces' 'endpoint get' 'endpoint config' 'identity list' 'identity get' 'policy selectors' 'ip get' 'node list' 'bpf map list' 'bpf map dump' 'bpf map get' 'bpf endpoint list' 'bpf endpoint get' 'bpf ipcache list' 'bpf ipcache get' 'bpf ipcache match' 'bpf identity list' 'bpf identity get' 'bpf config list' 'bpf frag list' 'bpf metrics list' 'bpf metrics get' 'bpf policy list' 'bpf policy get' 'statedb tables' 'statedb dump' 'config get' 'config set' 'config explain' 'version'
            printf '%s\n' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'hubble watch peers'
            printf '%s\n' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'monitor'
            printf '%s\n' '--type	Only these (repeated: any of them).' '-t	Only these (repeated: any of them).' '--from	From the endpoints (of one node: --node).' '--to	To the endpoints.' '--related-to	From or to the endpoints.' '--numeric	Identities as numbers.' '-n	Identities as numbers.' '--verbose	What is known of the packet; -vv with names.' '-v	What is known of the packet; -vv with names.' '--json	As -o json.' '-j	As -o json.' '--output	How to print: json is an object a line.' '-o	How to print: json is an object a line.' '--direct	Read the event rings where no agent runs (root).' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'endpoint list'
            printf '%s\n' '--namespace	Only this namespace.' '-n	Only this namespace.' '--labels	Only with this label (repeated: with all).' '-l	Only with this label (repeated: with all).' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'policy list' 'policy get'
            printf '%s\n' '--namespace	Only this namespace.' '-n	Only this namespace.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'policy import'
            printf '%s\n' '--no-wait	Wait until all agents have it in force.' '--wait	Wait until all agents have it in force.' '--timeout	How long to wait at most.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'policy delete'
            printf '%s\n' '--file	What is in manifests.' '-f	What is in manifests.' '--namespace	Where a name says none.' '-n	Where a name says none.' '--no-wait	Wait until no agent has it in force.' '--wait	Wait until no agent has it in force.' '--timeout	How long to wait at most.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'policy wait'
            printf '%s\n' '--revision	Until this revision is in force.' '--gone	Until the policy is no more in force.' '--timeout	How long to wait at most.' '--namespace	Where NAME says none.' '-n	Where NAME says none.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'policy validate'
            printf '%s\n' '--strict	Warnings count as errors.' '--quiet	No warnings and notes.' '-q	No warnings and notes.' '--config	The ConfigMap cilium-config, or an agent\'s configuration.' '--set	An option as in the ConfigMap: enable-l7-proxy=false.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'ip list'
            printf '%s\n' '--labels	Only with this label (repeated: with all).' '-l	Only with this label (repeated: with all).' '--identity	Only with this identity: a number, or a reserved name.' '--numeric	Only the identity\'s number, no labels.' '-n	Only the identity\'s number, no labels.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'bpf ct list'
            printf '%s\n' '--time-diff	Also print how long each entry has still to live.' '-d	Also print how long each entry has still to live.' '--ip	From or to the address or prefix (repeated: any of them).' '--endpoint	From or to this endpoint.' '--port	From or to the port.' '--protocol	tcp, udp, sctp, icmp, icmpv6.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'bpf ct get'
            printf '%s\n' '--protocol	tcp, udp, sctp, icmp, icmpv6.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'bpf ct flush'
            printf '%s\n' '--ip	From or to the address or prefix (repeated: any of them).' '--endpoint	From or to this endpoint.' '--port	From or to the port.' '--protocol	tcp, udp, sctp, icmp, icmpv6.' '--force	Do not ask.' '--yes	Do not ask.' '-f	Do not ask.' '-y	Do not ask.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'preflight'
            printf '%s\n' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab demo' 'completion'
            printf '%s\n' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab up'
            printf '%s\n' '--file	What the lab is made of (lab.yaml).' '-f	What the lab is made of (lab.yaml).' '--lab	The same as the argument NAME.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab status'
            printf '%s\n' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab apply'
            printf '%s\n' '--file	Manifests; `-` is standard input.' '-f	Manifests; `-` is standard input.' '--no-wait	Wait until all pods run and policies are in force.' '--wait	Wait until all pods run and policies are in force.' '--timeout	How long to wait at most.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab delete'
            printf '%s\n' '--file	What is in manifests.' '-f	What is in manifests.' '--namespace	Where NAME says none.' '-n	Where NAME says none.' '--no-wait	Wait until they have gone.' '--wait	Wait until they have gone.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab exec'
            printf '%s\n' '--stdin	As kubectl has it: input is passed in any case.' '-i	As kubectl has it: input is passed in any case.' '--tty	Give the command a terminal of its own, as a shell wants.' '-t	Give the command a terminal of its own, as a shell wants.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab run'
            printf '%s\n' '--stdin	Attach: pass standard input to the command.' '-i	Attach: pass standard input to the command.' '--tty	Give the command a terminal of its own, as a shell wants.' '-t	Give the command a terminal of its own, as a shell wants.' '--rm	Attach, and delete the pod when the command has ended.' '--namespace	Where NAME says none.' '-n	Where NAME says none.' '--node	Run it on this node.' '--labels	Its labels (repeated: all); else run=NAME.' '-l	Its labels (repeated: all); else run=NAME.' '--env	Environment (repeated: all).' '--port	Answer on this port (no COMMAND; repeated: on all).' '--restart	When COMMAND, not attached, is run again.' '--timeout	How long to wait until it runs.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab logs'
            printf '%s\n' '--follow	Go on as more is written.' '-f	Go on as more is written.' '--tail	Only the last lines of what is there.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab start' 'lab stop'
            printf '%s\n' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'lab down'
            printf '%s\n' '--lab	The same as the argument NAME.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'connectivity test'
            printf '%s\n' '--test	Only tests so named; `!REGEX` leaves out; `TEST/SCENARIO`.' '--list	List what would run, and run nothing.' '--fail-fast	End with the first test that fails.' '--junit-file	Write the results as JUnit XML.' '--timeout	End a run that takes longer.' '--request-timeout	Wait so long for an answer or a flow.' '--concurrency	So many actions at once.' '--verbose	A line an action instead of a dot.' '-v	A line an action instead of a dot.' '--output	How to print the results.' '-o	How to print the results.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'statedb watch'
            printf '%s\n' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print: json is an object a line.' '-o	How to print: json is an object a line.' '--help	Show this message and exit.' '-h	Show this message and exit.'
        case 'config list'
            printf '%s\n' '--changed	Only what somebody has set.' '--lab	Ask this lab; else $CILIUMPY_LAB, the host\'s agent, the only lab.' '--node	Ask this node\'s agent only.' '--output	How to print.' '-o	How to print.' '--help	Show this message and exit.' '-h	Show this message and exit.'
    end
end

function __ciliumpy_value
    switch "$argv[1]"
        case ':--lab' 'status:--lab' 'observe:--lab' 'hubble:--lab' 'hubble observe:--lab' 'hubble status:--lab' 'hubble list:--lab' 'hubble list nodes:--lab' 'hubble list namespaces:--lab' 'hubble watch:--lab' 'hubble watch peers:--lab' 'monitor:--lab' 'endpoint:--lab' 'endpoint list:--lab' 'endpoint get:--lab' 'endpoint config:--lab' 'identity:--lab' 'identity list:--lab' 'identity get:--lab' 'policy:--lab' 'policy list:--lab' 'policy get:--lab' 'policy selectors:--lab' 'policy import:--lab' 'policy delete:--lab' 'policy wait:--lab' 'ip:--lab' 'ip list:--lab' 'ip get:--lab' 'node:--lab' 'node list:--lab' 'bpf:--lab' 'bpf map:--lab' 'bpf map list:--lab' 'bpf map dump:--lab' 'bpf map get:--lab' 'bpf ct:--lab' 'bpf ct list:--lab' 'bpf ct get:--lab' 'bpf ct flush:--lab' 'bpf endpoint:--lab' 'bpf endpoint list:--lab' 'bpf endpoint get:--lab' 'bpf ipcache:--lab' 'bpf ipcache list:--lab' 'bpf ipcache get:--lab' 'bpf ipcache match:--lab' 'bpf identity:--lab' 'bpf identity list:--lab' 'bpf identity get:--lab' 'bpf config:--lab' 'bpf config list:--lab' 'bpf frag:--lab' 'bpf frag list:--lab' 'bpf metrics:--lab' 'bpf metrics list:--lab' 'bpf metrics get:--lab' 'bpf policy:--lab' 'bpf policy list:--lab' 'bpf policy get:--lab' 'lab:--lab' 'lab up:--lab' 'lab status:--lab' 'lab apply:--lab' 'lab delete:--lab' 'lab exec:--lab' 'lab run:--lab' 'lab logs:--lab' 'lab start:--lab' 'lab stop:--lab' 'lab down:--lab' 'lab down:0' 'connectivity:--lab' 'connectivity test:--lab' 'statedb:--lab' 'statedb tables:--lab' 'statedb dump:--lab' 'statedb watch:--lab' 'config:--lab' 'config list:--lab' 'config get:--lab' 'config set:--lab' 'config explain:--lab' 'version:--lab'
            printf '%s\n' '@labs'
        case ':--node' 'status:--node' 'observe:--node' 'hubble:--node' 'hubble observe:--node' 'hubble status:--node' 'hubble list:--node' 'hubble list nodes:--node' 'hubble list namespaces:--node' 'hubble watch:--node' 'hubble watch peers:--node' 'monitor:--node' 'endpoint:--node' 'endpoint list:--node' 'endpoint get:--node' 'endpoint config:--node' 'identity:--node' 'identity list:--node' 'identity get:--node' 'policy:--node' 'policy list:--node' 'policy get:--node' 'policy selectors:--node' 'policy import:--node' 'policy delete:--node' 'policy wait:--node' 'ip:--node' 'ip list:--node' 'ip get:--node' 'node:--node' 'node list:--node' 'bpf:--node' 'bpf map:--node' 'bpf map list:--node' 'bpf map dump:--node' 'bpf map get:--node' 'bpf ct:--node' 'bpf ct list:--node' 'bpf ct get:--node' 'bpf ct flush:--node' 'bpf endpoint:--node' 'bpf endpoint list:--node' 'bpf endpoint get:--node' 'bpf ipcache:--node' 'bpf ipcache list:--node' 'bpf ipcache get:--node' 'bpf ipcache match:--node' 'bpf identity:--node' 'bpf identity list:--node' 'bpf identity get:--node' 'bpf config:--node' 'bpf config list:--node' 'bpf frag:--node' 'bpf frag list:--node' 'bpf metrics:--node' 'bpf metrics list:--node' 'bpf metrics get:--node' 'bpf policy:--node' 'bpf policy list:--node' 'bpf policy get:--node' 'lab:--node' 'lab run:--node' 'lab start:0' 'lab start:1' 'lab start:2' 'lab start:3' 'lab start:4' 'lab start:5' 'lab start:6' 'lab start:7' 'lab stop:0' 'lab stop:1' 'lab stop:2' 'lab stop:3' 'lab stop:4' 'lab stop:5' 'lab stop:6' 'lab stop:7' 'connectivity:--node' 'statedb:--node' 'statedb tables:--node' 'statedb dump:--node' 'statedb watch:--node' 'config:--node' 'config list:--node' 'config get:--node' 'config set:--node' 'config explain:--node' 'version:--node'
            printf '%s\n' '@nodes'
        case ':--output' ':-o' 'status:--output' 'status:-o' 'hubble:--output' 'hubble:-o' 'hubble list:--output' 'hubble list:-o' 'hubble list nodes:--output' 'hubble list nodes:-o' 'hubble list namespaces:--output' 'hubble list namespaces:-o' 'hubble watch:--output' 'hubble watch:-o' 'endpoint:--output' 'endpoint:-o' 'endpoint list:--output' 'endpoint list:-o' 'endpoint get:--output' 'endpoint get:-o' 'endpoint config:--output' 'endpoint config:-o' 'identity:--output' 'identity:-o' 'identity list:--output' 'identity list:-o' 'identity get:--output' 'identity get:-o' 'policy:--output' 'policy:-o' 'policy list:--output' 'policy list:-o' 'policy get:--output' 'policy get:-o' 'policy selectors:--output' 'policy selectors:-o' 'policy import:--output' 'policy import:-o' 'policy delete:--output' 'policy delete:-o' 'ip:--output' 'ip:-o' 'ip list:--output' 'ip list:-o' 'ip get:--output' 'ip get:-o' 'node:--output' 'node:-o' 'node list:--output' 'node list:-o' 'bpf:--output' 'bpf:-o' 'bpf map:--output' 'bpf map:-o' 'bpf map list:--output' 'bpf map list:-o' 'bpf map dump:--output' 'bpf map dump:-o' 'bpf map get:--output' 'bpf map get:-o' 'bpf ct:--output' 'bpf ct:-o' 'bpf ct list:--output' 'bpf ct list:-o' 'bpf ct get:--output' 'bpf ct get:-o' 'bpf ct flush:--output' 'bpf ct flush:-o' 'bpf endpoint:--output' 'bpf endpoint:-o' 'bpf endpoint list:--output' 'bpf endpoint list:-o' 'bpf endpoint get:--output' 'bpf endpoint get:-o' 'bpf ipcache:--output' 'bpf ipcache:-o' 'bpf ipcache list:--output' 'bpf ipcache list:-o' 'bpf ipcache get:--output' 'bpf ipcache get:-o' 'bpf ipcache match:--output' 'bpf ipcache match:-o' 'bpf identity:--output' 'bpf identity:-o' 'bpf identity list:--output' 'bpf identity list:-o' 'bpf identity get:--output' 'bpf identity get:-o' 'bpf config:--output' 'bpf config:-o' 'bpf config list:--output' 'bpf config list:-o' 'bpf frag:--output' 'bpf frag:-o' 'bpf frag list:--output' 'bpf frag list:-o' 'bpf metrics:--output' 'bpf metrics:-o' 'bpf metrics list:--output' 'bpf metrics list:-o' 'bpf metrics get:--output' 'bpf metrics get:-o' 'bpf policy:--output' 'bpf policy:-o' 'bpf policy list:--output' 'bpf policy list:-o' 'bpf policy get:--output' 'bpf policy get:-o' 'preflight:--output' 'preflight:-o' 'lab:--output' 'lab:-o' 'lab status:--output' 'lab status:-o' 'connectivity:--output' 'connectivity:-o' 'statedb:--output' 'statedb:-o' 'statedb tables:--output' 'statedb tables:-o' 'statedb dump:--output' 'statedb dump:-o' 'config:--output' 'config:-o' 'config list:--output' 'config list:-o' 'config get:--output' 'config get:-o' 'config set:--output' 'config set:-o' 'config explain:--output' 'config explain:-o' 'version:--output' 'version:-o'
            printf '%s\n' 'text' 'wide' 'json' 'yaml' 'jsonpath=' 'name'
        case 'status:--wait-duration' 'observe:--last' 'observe:--first' 'observe:--since' 'observe:--until' 'observe:--namespace' 'observe:-n' 'observe:--from-namespace' 'observe:--to-namespace' 'observe:--label' 'observe:-l' 'observe:--from-label' 'observe:--to-label' 'observe:--port' 'observe:--from-port' 'observe:--to-port' 'observe:--workload' 'observe:--from-workload' 'observe:--to-workload' 'observe:--cluster' 'observe:--from-cluster' 'observe:--to-cluster' 'observe:--protocol' 'observe:--tcp-flags' 'observe:--node-name' 'observe:--node-label' 'observe:--uuid' 'observe:--fqdn' 'observe:--from-fqdn' 'observe:--to-fqdn' 'observe:--http-status' 'observe:--http-method' 'observe:--http-path' 'observe:--http-url' 'observe:--http-header' 'observe:--trace-id' 'observe:--ip-trace-id' 'observe:--cel-expression' 'observe:--allowlist' 'observe:--denylist' 'observe:--field-mask' 'observe:--time-format' 'hubble observe:--last' 'hubble observe:--first' 'hubble observe:--since' 'hubble observe:--until' 'hubble observe:--namespace' 'hubble observe:-n' 'hubble observe:--from-namespace' 'hubble observe:--to-namespace' 'hubble observe:--label' 'hubble observe:-l' 'hubble observe:--from-label' 'hubble observe:--to-label' 'hubble observe:--port' 'hubble observe:--from-port' 'hubble observe:--to-port' 'hubble observe:--workload' 'hubble observe:--from-workload' 'hubble observe:--to-workload' 'hubble observe:--cluster' 'hubble observe:--from-cluster' 'hubble observe:--to-cluster' 'hubble observe:--protocol' 'hubble observe:--tcp-flags' 'hubble observe:--node-name' 'hubble observe:--node-label' 'hubble observe:--uuid' 'hubble observe:--fqdn' 'hubble observe:--from-fqdn' 'hubble observe:--to-fqdn' 'hubble observe:--http-status' 'hubble observe:--http-method' 'hubble observe:--http-path' 'hubble observe:--http-url' 'hubble observe:--http-header' 'hubble observe:--trace-id' 'hubble observe:--ip-trace-id' 'hubble observe:--cel-expression' 'hubble observe:--allowlist' 'hubble observe:--denylist' 'hubble observe:--field-mask' 'hubble observe:--time-format' 'endpoint list:--labels' 'endpoint list:-l' 'policy import:--timeout' 'policy delete:--timeout' 'policy wait:--revision' 'policy wait:--timeout' 'policy validate:--set' 'ip list:--labels' 'ip list:-l' 'bpf ct list:--ip' 'bpf ct list:--port' 'bpf ct list:--protocol' 'bpf ct get:--protocol' 'bpf ct flush:--ip' 'bpf ct flush:--port' 'bpf ct flush:--protocol' 'lab apply:--timeout' 'lab run:--labels' 'lab run:-l' 'lab run:--env' 'lab run:--port' 'lab run:--timeout' 'lab logs:--tail' 'connectivity test:--test' 'connectivity test:--timeout' 'connectivity test:--request-timeout' 'connectivity test:--concurrency'
            printf '%s\n' 'any'
        case 'observe:--input-file' 'hubble observe:--input-file' 'policy delete:--file' 'policy delete:-f' 'policy validate:--config' 'lab up:--file' 'lab up:-f' 'lab apply:--file' 'lab apply:-f' 'lab delete:--file' 'lab delete:-f' 'connectivity test:--junit-file'
            printf '%s\n' 'file'
        case 'observe:--verdict' 'hubble observe:--verdict'
            printf '%s\n' 'FORWARDED' 'DROPPED' 'AUDIT' 'REDIRECTED' 'ERROR'
        case 'observe:--type' 'observe:-t' 'hubble observe:--type' 'hubble observe:-t' 'monitor:--type' 'monitor:-t'
            printf '%s\n' 'drop' 'trace' 'policy-verdict'
        case 'observe:--pod' 'observe:--from-pod' 'observe:--to-pod' 'observe:--service' 'observe:--from-service' 'observe:--to-service' 'hubble observe:--pod' 'hubble observe:--from-pod' 'hubble observe:--to-pod' 'hubble observe:--service' 'hubble observe:--from-service' 'hubble observe:--to-service' 'lab exec:0'
            printf '%s\n' '@pods'
        case 'observe:--identity' 'observe:--from-identity' 'observe:--to-identity' 'hubble observe:--identity' 'hubble observe:--from-identity' 'hubble observe:--to-identity' 'identity get:0' 'ip list:--identity' 'bpf ipcache match:0' 'bpf identity get:0'
            printf '%s\n' '@identities'
        case 'observe:--ip' 'observe:--from-ip' 'observe:--to-ip' 'observe:--snat-ip' 'hubble observe:--ip' 'hubble observe:--from-ip' 'hubble observe:--to-ip' 'hubble observe:--snat-ip' 'ip get:0' 'bpf ct get:0' 'bpf ct get:1' 'bpf ipcache get:0'
            printf '%s\n' '@addresses'
        case 'observe:--ip-version' 'hubble observe:--ip-version'
            printf '%s\n' 'none' 'v4' 'v6'
        case 'observe:--traffic-direction' 'hubble observe:--traffic-direction'
            printf '%s\n' 'ingress' 'egress'
        case 'observe:--drop-reason-desc' 'hubble observe:--drop-reason-desc' 'bpf metrics get:0'
            printf '%s\n' '@reasons'
        case 'observe:--interface' 'hubble observe:--interface'
            printf '%s\n' 'NAME' 'INDEX'
        case 'observe:--output' 'observe:-o' 'hubble observe:--output' 'hubble observe:-o'
            printf '%s\n' 'compact' 'dict' 'json' 'jsonpb' 'table'
        case 'observe:--color' 'hubble observe:--color'
            printf '%s\n' 'auto' 'always' 'never'
        case 'hubble status:--output' 'hubble status:-o'
            printf '%s\n' 'compact' 'json'
        case 'monitor:--from' 'monitor:--to' 'monitor:--related-to' 'bpf ct list:--endpoint' 'bpf ct flush:--endpoint' 'bpf endpoint get:0'
            printf '%s\n' '@endpoints'
        case 'monitor:--output' 'monitor:-o' 'connectivity test:--output' 'connectivity test:-o' 'statedb watch:--output' 'statedb watch:-o'
            printf '%s\n' 'text' 'json'
        case 'endpoint list:--namespace' 'endpoint list:-n' 'policy list:--namespace' 'policy list:-n' 'policy get:--namespace' 'policy get:-n' 'policy delete:--namespace' 'policy delete:-n' 'policy wait:--namespace' 'policy wait:-n' 'lab delete:--namespace' 'lab delete:-n' 'lab run:--namespace' 'lab run:-n'
            printf '%s\n' '@namespaces'
        case 'endpoint get:0' 'endpoint config:0' 'bpf policy list:0' 'bpf policy get:0'
            printf '%s\n' '@endpoints-or-pods'
        case 'policy get:0' 'policy delete:0' 'policy delete:1' 'policy delete:2' 'policy delete:3' 'policy delete:4' 'policy delete:5' 'policy delete:6' 'policy delete:7' 'policy wait:0'
            printf '%s\n' '@policies'
        case 'policy validate:--output' 'policy validate:-o'
            printf '%s\n' 'text' 'json' 'yaml' 'jsonpath=' 'name' 'sarif'
        case 'bpf map dump:0' 'bpf map get:0'
            printf '%s\n' '@maps'
        case 'lab run:--restart'
            printf '%s\n' 'Always' 'OnFailure' 'Never'
        case 'lab logs:0'
            printf '%s\n' '@nodes-or-pods'
        case 'statedb dump:0' 'statedb watch:0'
            printf '%s\n' '@tables'
        case 'config get:0' 'config set:0' 'config explain:0'
            printf '%s\n' '@settings'
        case 'completion:0'
            printf '%s\n' 'bash' 'zsh' 'fish'
    end
end

complete -c ciliumpy -f -a '(__ciliumpy_offer)'
