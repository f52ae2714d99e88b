#!/bin/sh
# A fake docker, kind, kubectl, curl and nslookup: writes down how it was called and answers as a cluster would.
# The shell commands that are meant for a pod or a node are run, here, with the fakes first on the path.
here=$(dirname "$0")
program=$(basename "$0")
export PATH="$here:/usr/bin:/bin" TMPDIR="$here"

# Numbers of Services, as their addresses have them, and how many pods each has.
number() {
    case $1 in
    web) echo 1 ;; web-node-port) echo 2 ;; web-local) echo 3 ;; web-empty) echo 4 ;; web-affinity) echo 5 ;; web-rolling) echo 6 ;;
    esac
}
service() {
    case $1 in
    *10.96.0.1:*) echo web ;; *10.96.0.2:* | *:30002/*) echo web-node-port ;; *10.96.0.3:*) echo web-local ;;
    *10.96.0.4:*) echo web-empty ;; *10.96.0.5:*) echo web-affinity ;; *10.96.0.6:*) echo web-rolling ;;
    esac
}
replicas() {
    case $1 in
    web-empty) ;; web-node-port) echo 1 2 ;; web-local) echo 1 2 3 4 ;; *) echo 1 2 3 ;;
    esac
}
generation() { cat "$here/generation-$1" 2>/dev/null || echo 0; }
pod() {
    # Pods with odd numbers are on the first node. One that ends is Running and Ready until its shutdown is over.
    node=kube-proxy-e2e-worker
    [ $(($3 % 2)) = 0 ] && node=kube-proxy-e2e-worker2
    printf '{"metadata":{"name":"%s-%s-%s"%s},"spec":{"nodeName":"%s"},' "$1" "$2" "$3" "$4" "$node"
    printf '"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}'
}
pods() {
    now=$(generation "$1")
    separator=
    printf '{"items":['
    for count in $(replicas "$1"); do
        if [ "$now" -gt 0 ]; then
            printf '%s' "$separator"
            pod "$1" $((now - 1)) "$count" ',"deletionTimestamp":"2026-01-01T00:00:00Z"'
            separator=,
        fi
        printf '%s' "$separator"
        pod "$1" "$now" "$count" ''
        separator=,
    done
    printf ']}'
}
# Each of the pods in its turn; the same for a session, and only those of the first node for policy Local.
answer() {
    name=$(service "$1")
    turn=$(($(cat "$here/turn" 2>/dev/null || echo 0) + 1))
    echo "$turn" >"$here/turn"
    set -- $(replicas "$name")
    [ $# = 0 ] && return 7
    count=$((turn % $# + 1))
    [ "$name" = web-affinity ] && count=1
    [ "$name" = web-local ] && count=$((turn % 2 * 2 + 1))
    echo "$name-$(generation "$name")-$count"
}

case $program in
curl)
    [ -e "$here/curl-fails" ] && exit 7
    for last in "$@"; do :; done
    answer "$last"
    exit
    ;;
nslookup) echo "Address: 10.96.0.1"; exit ;;
esac

echo "$program $*" >>"$here/log"
while read -r part; do
    case "$*" in *"$part"*) echo "fake: $part" >&2; exit 1 ;; esac
done <"$here/failing"

case "$program $*" in
"docker info"*) echo 27.0 ;;
"docker exec"*ip_vs*) test -e "$here/ip_vs" ;;
"docker exec"*tables*) ;;
"docker exec"* | "kubectl"*" exec client -- "*)
    for last in "$@"; do :; done
    exec sh -c "$last"
    ;;
"kind create cluster"*) cat >"$here/cluster" ;;
*" apply -f -") cat >>"$here/applied" ;;
*containers*image*) echo registry.k8s.io/kube-proxy:v1.36.0 ;;
*"get pods"*) name=${*##*--selector=app=}; pods "${name%% *}" ;;
*clusterIP*) name=${*##*get service }; echo "10.96.0.$(number "${name%% *}")" ;;
*nodePort*) echo 30002 ;;
*InternalIP*) echo 172.18.0.3 fc00::3 ;;
*"rollout restart"*) name=${*##*deployment/}; echo $(($(generation "$name") + 1)) >"$here/generation-$name" ;;
esac
