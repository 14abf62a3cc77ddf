#!/bin/sh
# What the operators' scripts share; they source it, nobody runs it. Needs a POSIX shell with awk, sed, tr, od, mktemp.
#
# The scripts drive tctl (run against v1.18.0) and temporal (v1.5.1), whichever is there, and behave the same with both:
# they start, signal, query, describe and list, which both can. What differs is levelled here, in `run` above all:
#
#   - tctl writes its errors to standard output, and names the running process as started. Errors are told apart, and
#     whether a lock was joined is found out.
#   - tctl's batch signal wraps its input in a string. Nothing here signals in batches: a signal goes to one process.
#   - Connections are set by TEMPORAL_* for temporal and by TEMPORAL_CLI_* for tctl. Either set does for both.
#   - A signal is not answered. The scripts look at the status until it shows what came of it.
#
# Whoever runs them acts as an operator: the audit names --by, and no user.
#
# Variables named opt_* are the command line's; the scripts read what is assigned here.
# shellcheck disable=SC2034

LC_ALL=C
NO_COLOR=1
export LC_ALL NO_COLOR
set -u
: "${here:?is the folder of the scripts, and set by the one that runs}"

# Exit codes, the same as those of starter.
exit_error=1 exit_usage=2 exit_refused=3 exit_ended=4

exit_codes_help='Exit codes:
  0  done
  1  error
  2  usage: the command line is wrong
  3  refused: the request or message was turned down, with the reason
  4  cancelled or expired: nothing was changed'

programs_help='Needs tctl or temporal: the one that TEMPORAL_PROGRAM names (a name or a path), else the first that is found, temporal
before tctl. TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS_*, TEMPORAL_API_KEY and TEMPORAL_CODEC_ENDPOINT hold for
both. tctl reads no profiles.'

script=${0##*/}
self_service=MobileIDSelfServiceProcLock
for_operator=MobileIDProcLockForOperator
workflow_prefix=$self_service/

# The reasons that an operator's lock may send, by their RFC 5280 names. A signal with another would be taken without it.
reasons='unspecified keyCompromise affiliationChanged superseded cessationOfOperation privilegeWithdrawn'

patience=5 # seconds for one call; a query waits so long for a worker

opt_all='' opt_by='' opt_dry_run='' opt_limit='' opt_needs_operator='' opt_no_wait='' opt_note='' opt_output=text
opt_overdue='' opt_owner='' opt_rate='' opt_reason='' opt_report='' opt_resume='' opt_show_query='' opt_wait='' opt_yes=''
opt_task_queue=${MOBILEID_TASK_QUEUE:-mobile-id}
operand='' operands=0

# --- how a script ends ----------------------------------------------------------------------------------------------

# quoted TEXT: as a JSON string. What cannot be shown becomes a blank.
quoted() {
  printf '"%s"' "$(printf '%s\n' "$1" | tr '\000-\011\013-\037\177' ' ' | tr '\n' ' ' | sed -e 's/ $//' -e 's/[\\"]/\\&/g')"
}

# fail TEXT: ends with an error.
fail() {
  if [ "$opt_output" = json ]; then
    printf '{"error":%s}\n' "$(quoted "$1")"
  else
    printf '%s: %s\n' "$script" "$1" >&2
  fi
  exit "$exit_error"
}

# wrong TEXT: ends because the command line is wrong.
wrong() {
  printf '%s: %s; see %s --help\n' "$script" "$1" "$script" >&2
  exit "$exit_usage"
}

# refuse TYPE MESSAGE [FIELD] [STATE]: ends with a refusal, in starter's words.
refuse() {
  if [ "$opt_output" = json ]; then
    refusal="{\"type\":$(quoted "$1"),\"message\":$(quoted "$2")"
    [ -z "${3:-}" ] || refusal=$refusal,\"field\":$(quoted "$3")
    [ -z "${4:-}" ] || refusal=$refusal,\"state\":$(quoted "$4")
    printf '{"refusal":%s}}\n' "$refusal"
  else
    printf 'refused (%s): %s\n' "$1" "$2" >&2
  fi
  exit "$exit_refused"
}

not_found() { refuse MobileIDNotFound 'no such mobile ID belongs to this user'; }
invalid() { refuse InvalidRequest "\"$1\" $2" "$1"; }

# --- the command line -----------------------------------------------------------------------------------------------

# parse OPTIONS ARGUMENT...: takes the options named in OPTIONS, those with a colon have a value, and one operand.
parse() {
  known=" $1 help "
  shift
  only_operands=''
  while [ $# -gt 0 ]; do
    case $only_operands$1 in
      --)
        only_operands=yes
        shift
        continue
        ;;
      -o) option=output ;;
      -h) option=help ;;
      --*) option=${1#--} ;;
      -?*) wrong "unknown option $1" ;;
      *)
        operand=$1 operands=$((operands + 1))
        shift
        continue
        ;;
    esac
    given='' value=yes
    case $option in
      *=*)
        value=${option#*=} option=${option%%=*} given=yes
        ;;
    esac
    case $option in
      '' | *[!a-z-]*) wrong "unknown option $1" ;;
    esac
    case $known in
      *" $option: "*)
        if [ -z "$given" ]; then
          [ $# -gt 1 ] || wrong "--$option needs a value"
          value=$2
          shift
        fi
        ;;
      *" $option "*) [ -z "$given" ] || wrong "--$option takes no value" ;;
      *) wrong "unknown option --$option" ;;
    esac
    shift
    if [ "$option" = help ]; then
      usage
      exit 0
    fi
    # The name is one of the script's own, so nothing of the command line is evaluated.
    eval "opt_$(printf '%s' "$option" | tr '-' '_')=\$value"
  done
  case $opt_output in
    text | json) ;;
    *)
      output=$opt_output opt_output=text
      wrong "--output is \"$output\", must be text or json"
      ;;
  esac
}

# id_operand: the one operand is a mobile ID, by the contract's character set. Nothing else gets into a workflow id.
id_operand() {
  [ "$operands" -eq 1 ] || wrong 'give one MOBILE_ID'
  check_id "$operand"
}

check_id() {
  case $1 in
    '') invalid mobileId 'is missing' ;;
    *[!A-Za-z0-9._-]*) invalid mobileId 'may hold only A-Z a-z 0-9 . _ -' ;;
  esac
  [ ${#1} -le 128 ] || invalid mobileId 'has more than 128 characters'
}

# check_text FIELD TEXT BYTES: a signal with a bad field would be taken without it, so nothing bad is sent.
check_text() {
  case $2 in
    *[[:cntrl:]]*) invalid "$1" 'holds characters that cannot be shown' ;;
  esac
  [ ${#2} -le "$3" ] || invalid "$1" "has more than $3 bytes"
}

check_reason() {
  case " $reasons " in
    *" ${1:-unspecified} "*) ;;
    *) invalid reason "must be empty or one of $(printf '%s' "$reasons" | sed 's/ /, /g')" ;;
  esac
}

# check_options: what every script may send.
check_options() {
  [ -n "$opt_by" ] || opt_by=$(id -un 2>/dev/null) || opt_by=operator
  check_text by "$opt_by" 256
  check_text userId "$opt_owner" 256
  check_text note "$opt_note" 1024
  check_reason "$opt_reason"
}

# whole OPTION TEXT: a number without sign or fraction, short enough to count with.
whole() {
  case $2 in
    '' | *[!0-9]* | ??????????*) wrong "--$1 is \"$2\", must be a whole number" ;;
  esac
}

# seconds OPTION DURATION: 90s, 15m, 4h or 2d, as seconds in $seconds.
seconds() {
  number=${2%[smhd]}
  case $2 in
    *s) unit=1 ;;
    *m) unit=60 ;;
    *h) unit=3600 ;;
    *d) unit=86400 ;;
    *) wrong "--$1 is \"$2\", must be like 90s, 15m, 4h or 2d" ;;
  esac
  whole "$1" "$number"
  seconds=$((number * unit))
}

# --- the program ----------------------------------------------------------------------------------------------------

# find_program: which of the two it is, in $program and $tool, with its settings.
find_program() {
  for needed in awk sed tr od mktemp; do
    command -v "$needed" >/dev/null || fail "the program $needed is missing"
  done
  program=${TEMPORAL_PROGRAM:-}
  if [ -z "$program" ]; then
    for candidate in temporal tctl "$here/../.bin/temporal" "$here/../.bin/tctl"; do
      if command -v "$candidate" >/dev/null; then
        program=$candidate
        break
      fi
    done
    [ -n "$program" ] || fail 'neither temporal nor tctl is found; set TEMPORAL_PROGRAM to one of them'
  fi
  tool=${program##*/}
  case $tool in
    tctl | temporal) ;;
    *) wrong "TEMPORAL_PROGRAM is \"$program\", must be tctl or temporal, or a path to one of them" ;;
  esac
  command -v "$program" >/dev/null || fail "TEMPORAL_PROGRAM is $program, which is not found"
  level_settings
  work=$(mktemp -d) || fail 'cannot make a temporary folder'
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# level_settings: the connection, under the names of the program at hand.
level_settings() {
  share TEMPORAL_ADDRESS TEMPORAL_CLI_ADDRESS
  share TEMPORAL_NAMESPACE TEMPORAL_CLI_NAMESPACE
  share TEMPORAL_TLS_CLIENT_CERT_PATH TEMPORAL_CLI_TLS_CERT
  share TEMPORAL_TLS_CLIENT_KEY_PATH TEMPORAL_CLI_TLS_KEY
  share TEMPORAL_TLS_SERVER_CA_CERT_PATH TEMPORAL_CLI_TLS_CA
  share TEMPORAL_TLS_SERVER_NAME TEMPORAL_CLI_TLS_SERVER_NAME
  share TEMPORAL_TLS_DISABLE_HOST_VERIFICATION TEMPORAL_CLI_TLS_DISABLE_HOST_VERIFICATION
  share TEMPORAL_CODEC_ENDPOINT TEMPORAL_CLI_CODEC_ENDPOINT
  share TEMPORAL_CODEC_AUTH TEMPORAL_CLI_CODEC_AUTH
  [ "$tool" = tctl ] || return 0
  # It would go to another cluster than the profile's, or to none.
  [ -z "${TEMPORAL_PROFILE:-}${TEMPORAL_CONFIG_FILE:-}" ] ||
    wrong 'tctl reads no profiles: unset TEMPORAL_PROFILE and TEMPORAL_CONFIG_FILE, and set TEMPORAL_ADDRESS and the like'
  if [ -n "${TEMPORAL_API_KEY:-}" ]; then
    TEMPORAL_CLI_AUTH="Bearer $TEMPORAL_API_KEY" TEMPORAL_TLS=true
    export TEMPORAL_CLI_AUTH
  fi
  # The name of the server is all that makes tctl use TLS when there is no file. Without an address it goes to this machine.
  if [ "${TEMPORAL_TLS:-}" = true ] && [ -z "${TEMPORAL_CLI_TLS_SERVER_NAME:-}" ]; then
    address=${TEMPORAL_CLI_ADDRESS:-127.0.0.1:7233}
    TEMPORAL_CLI_TLS_SERVER_NAME=${address%:*}
    export TEMPORAL_CLI_TLS_SERVER_NAME
  fi
}

# share OF_TEMPORAL OF_TCTL: a setting that is there under the other's name alone. The names are this file's own.
share() {
  case $tool in
    tctl) from=$1 to=$2 ;;
    *) from=$2 to=$1 ;;
  esac
  eval "theirs=\${$from:-} ours=\${$to:-}"
  [ -n "$ours" ] || [ -z "$theirs" ] || eval "$to=\$theirs; export $to"
}

# run ARGUMENT...: one call of the program. Its answer is in $answer. If it fails: what is wrong in $trouble, and of
# which kind in $problem: gone (no such process, or closed), silent (no worker answers in time), refused, or error.
run() {
  trouble='' problem=''
  case $tool in
    tctl) set -- --context_timeout "$patience" "$@" ;;
    *) set -- "$@" --command-timeout "${patience}s" --client-connect-timeout "$((patience - 2))s" ;;
  esac
  if answer=$("$program" "$@" 2>"$work/errors" </dev/null); then
    case $tool:$answer in
      tctl:Error:* | tctl:'Incorrect Usage'*) ;;
      *) return 0 ;;
    esac
  fi
  if [ "$tool" = tctl ]; then
    trouble=$(printf '%s\n' "$answer" | sed -n -e 's/^Error Details: //p')
    [ -n "$trouble" ] || trouble=$(printf '%s\n' "$answer" | sed -n -e 's/^Error: //p')
  else
    trouble=$(sed -n -e 's/^.* level=ERROR msg=//p' "$work/errors" | sed -e 's/^"\(.*\)"$/\1/' -e 's/\\\(["\\]\)/\1/g')
  fi
  [ -n "$trouble" ] || trouble=$(printf '%s\n' "$answer" && cat "$work/errors")
  case $trouble in
    *' (type: '*', retryable: '*) problem=refused ;;
    *'workflow not found'* | *'already completed'* | *'no rows in result set'*) problem=gone ;;
    *'failed reaching server'* | *'Failed to create SDK client'* | *'code = Unavailable'*) problem=error ;;
    # That its time is up, temporal tells as interrupted; the server may be first to cut the call.
    *DeadlineExceeded* | *'deadline exceeded'* | *'timed out'* | *'program interrupted'* | *'error code: CANCEL'* | *'context canceled'* | \
      *'no poller seen'* | *'not ready'*) problem=silent ;;
    *) problem=error ;;
  esac
  case $trouble in
    *'encode is off'*) trouble='the codec server only decodes, and temporal has it encode what is sent: codec_server.encode must be true there' ;;
  esac
  # Of the chain of words, the last ones are the server's.
  trouble=$(printf '%s\n' "$trouble" | tr '\n\t' '  ' | sed -e 's/^.*rpc error: code = [A-Za-z]* desc = //' -e 's/ *$//')
  return 1
}

# unreachable: ends with what the program said.
unreachable() { fail "$tool, $1: $trouble"; }

# --- locks ----------------------------------------------------------------------------------------------------------

# start ID OWNER CONFIRMED REASON: starts a lock or joins the running one; which of it, the program does not tell.
start() {
  input="{\"mobileId\":\"$1\",\"userId\":$(quoted "$2"),\"by\":$(quoted "$opt_by"),\"confirmed\":$3,\"reason\":\"$4\",\"resume\":${opt_resume:-false}}"
  if [ "$tool" = tctl ]; then
    run workflow start --taskqueue "$opt_task_queue" --workflow_type "$for_operator" --workflow_id "$workflow_prefix$1" --input "$input" || return 1
    started=$(printf '%s\n' "$answer" | sed -n -e 's/^Started Workflow Id: .*, run Id: //p')
  else
    run workflow start --task-queue "$opt_task_queue" --type "$for_operator" --workflow-id "$workflow_prefix$1" --input "$input" \
      --id-conflict-policy UseExisting --static-summary "Lock mobile ID $1" --output json || return 1
    started=$(printf '%s\n' "$answer" | awk -f "$here/json.awk" | awk -F '\t' '$1 == "runId" { print $2 }')
  fi
}

# send ID NAME: a signal, with what the command line says.
send() {
  message="{\"by\":$(quoted "$opt_by"),\"requestId\":\"$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')\""
  [ -z "$opt_note" ] || message=$message,\"note\":$(quoted "$opt_note")
  [ -z "$opt_reason" ] || message=$message,\"reason\":\"$opt_reason\"
  if [ "$tool" = tctl ]; then
    run workflow signal --workflow_id "$workflow_prefix$1" --name "$2" --input "$message}"
  else
    run workflow signal --workflow-id "$workflow_prefix$1" --name "$2" --input "$message}"
  fi
}

# ask ID: the status, on behalf of the owner if one is given: then a lock of anybody else's is refused. It is left in
# $work/status.json, and flattened in $work/status, for `value`.
ask() {
  : >"$work/status"
  on_behalf={}
  [ -z "$opt_owner" ] || on_behalf="{\"userId\":$(quoted "$opt_owner")}"
  if [ "$tool" = tctl ]; then
    run workflow query --workflow_id "$workflow_prefix$1" --query_type status --input "$on_behalf" || return 1
    printf '%s\n' "$answer" | sed -e 1d | sed -e '1s/^\[//' -e '$s/\]$//' >"$work/status.json"
  else
    run workflow query --workflow-id "$workflow_prefix$1" --name status --input "$on_behalf" --output jsonl || return 1
    printf '%s\n' "$answer" | sed -e 's/^{ *"queryResult": *\[//' -e 's/\] *}$//' >"$work/status.json"
  fi
  if ! awk -f "$here/json.awk" "$work/status.json" >"$work/status" || [ -z "$(value phase)" ]; then
    problem=error trouble='the status cannot be read: if it is encrypted, TEMPORAL_CODEC_ENDPOINT must name the codec server'
    [ "$tool" = tctl ] || trouble="$trouble, where codec_server.encode must be true"
    return 1
  fi
}

# value PATH: of the status that was asked for last.
value() { awk -F '\t' -v path="$1" '$1 == path { print $2; exit }' "$work/status"; }

# describe ID: what the engine knows, flattened in $work/description.
describe() {
  : >"$work/description"
  if [ "$tool" = tctl ]; then
    run workflow describe --workflow_id "$workflow_prefix$1" || return 1
  else
    run workflow describe --workflow-id "$workflow_prefix$1" --output json || return 1
  fi
  printf '%s\n' "$answer" | awk -f "$here/json.awk" >"$work/description"
}

# find_running ID: the run that is open, in $running, empty if there is none.
find_running() {
  running=''
  if ! describe "$1"; then
    [ "$problem" = gone ] || unreachable "describe the lock of $1"
    return 0
  fi
  running=$(awk -F '\t' '
    $1 == "workflowExecutionInfo.execution.runId" { run = $2 }
    $1 == "workflowExecutionInfo.status" { status = tolower($2) }
    END { if (status ~ /running$/) print run }' "$work/description")
}

# await CONDITION ID SECONDS: looks at the status until CONDITION holds. Returns 1 with $problem set if there is one,
# and empty if the time is up.
await() {
  until_time=$(($(date +%s) + $3))
  while :; do
    ask "$2" || return 1
    ! "$1" || return 0
    [ "$(date +%s)" -lt "$until_time" ] || return 1
    # Fractions are not POSIX, but nearly everywhere.
    sleep 0.2 2>/dev/null || sleep 1
  done
}

is_validated() { [ "$(value phase)" != validating ]; }
is_locked() { [ -n "$(value lockedAt)" ] || is_closed; }
is_revoked() { [ "$(value revoked)" = true ] || is_closed; }
is_closed() { [ "$(value phase)" = closed ]; }

# press ID NAME: sends next or cancel to a process that was there a moment ago. One that has closed since is no error:
# its status tells how. One that was terminated has a status that goes on for ever.
press() {
  send "$1" "$2" && return 0
  [ "$problem" = gone ] || unreachable "send $2 to the lock of $1"
  ask "$1" || complain "$1"
  is_closed || fail 'the process was ended from outside; start the lock again, it goes on from where it was'
}

# complain ID: ends with what kept `ask` or `await` from an answer.
complain() {
  case $problem in
    refused)
      refuse "$(printf '%s' "$trouble" | sed -e 's/^.* (type: \([A-Za-z]*\), retryable: .*$/\1/')" \
        "$(printf '%s' "$trouble" | sed -e 's/ (type: [A-Za-z]*, retryable: .*$//' -e 's/^.*failed: //')"
      ;;
    gone) not_found ;;
    silent) fail 'no worker answers' ;;
    *) unreachable "look at the lock of $1" ;;
  esac
}

# show ID: the status that was asked for last, with the engine's steps.
show() {
  describe "$1" || : # without its steps, then
  if [ "$opt_output" = json ]; then
    steps=$(awk -f "$here/steps.awk" "$work/description")
    run_id=$(awk -F '\t' '$1 == "workflowExecutionInfo.execution.runId" { print $2 }' "$work/description")
    printf '{"workflowId":"%s","runId":"%s"%s,' "$workflow_prefix$1" "$run_id" "${steps:+,\"steps\":[$steps]}"
    tr -d '\n' <"$work/status.json" | sed -e 's/^ *{//'
    echo
  else
    cat "$work/status" "$work/description" | awk -f "$here/status.awk"
  fi
}

# stored ID: no worker has answered; what was sent waits at the server.
stored() {
  if [ "$opt_output" = json ]; then
    printf '{"workflowId":"%s","stored":true}\n' "$workflow_prefix$1"
  else
    echo 'Stored. No worker answers now; it takes effect when one does.'
  fi
  exit 0
}

# refuse_if_refused: ends with the refusal that ended the process.
refuse_if_refused() {
  [ -z "$(value refusal.type)" ] ||
    refuse "$(value refusal.type)" "$(value refusal.message)" "$(value refusal.field)" "$(value refusal.state)"
}

# follow ID: after Next was sent, waits as the command line says, shows how it stands, and ends.
follow() {
  condition=is_revoked
  [ -z "$opt_no_wait" ] || condition=is_locked
  if ! await "$condition" "$1" "${opt_wait:-60}"; then
    case $problem in
      silent) stored "$1" ;;
      '') is_locked || [ "$opt_output" = json ] || echo "$script: not locked yet; the process goes on, see status" >&2 ;;
      *) complain "$1" ;;
    esac
  fi
  refuse_if_refused
  show "$1"
  case $(value outcome) in
    cancelled | expired) exit "$exit_ended" ;;
  esac
  is_locked || exit "$exit_error"
  exit 0
}

# --- lists ----------------------------------------------------------------------------------------------------------

# filter: what the options ask for, in Temporal's list filter language, in $filter. Only words of ours get into it.
filter() {
  filter="WorkflowType IN ('$self_service', '$for_operator')"
  [ -n "$opt_all" ] || filter="$filter AND ExecutionStatus = 'Running'"
  [ -z "$opt_needs_operator" ] || filter="$filter AND LockPhase = 'needsOperator'"
  if [ -n "$opt_overdue" ]; then
    seconds overdue "$opt_overdue"
    before=$(utc $(($(date +%s) - seconds))) || fail 'cannot reckon with times: awk fails'
    filter="$filter AND LockRequestedAt < '$before'"
  fi
}

# utc SECONDS: a time since 1970 as RFC 3339. date has no portable way.
utc() {
  awk -v t="$1" 'BEGIN {
    days = int(t / 86400); t -= days * 86400
    # The calendar counts from the first of March of the year 0, so that a leap day ends a year.
    days += 719468; era = int(days / 146097); doe = days - era * 146097
    yoe = int((doe - int(doe / 1460) + int(doe / 36524) - int(doe / 146096)) / 365)
    doy = doe - (365 * yoe + int(yoe / 4) - int(yoe / 100)); mp = int((5 * doy + 2) / 153)
    month = mp < 10 ? mp + 3 : mp - 9
    printf "%04d-%02d-%02dT%02d:%02d:%02dZ", yoe + era * 400 + (month <= 2), month, doy - int((153 * mp + 2) / 5) + 1, t / 3600, t % 3600 / 60, t % 60
  }'
}

# fetch: the locks of the filter, for rows.
fetch() {
  if [ "$tool" = tctl ]; then
    run workflow listall --query "$filter" --print_json || unreachable 'list the locks'
  else
    run workflow list --query "$filter" ${opt_limit:+--limit "$opt_limit"} --output json || unreachable 'list the locks'
  fi
  # The answer of a list without rows may be none at all.
  printf '%s\n' "${answer:-[]}" | awk -f "$here/json.awk" >"$work/list" || fail "the list of $tool cannot be read"
}

# rows AS: what was fetched, as text, json or ids.
rows() {
  awk -v as="$1" -v limit="${opt_limit:-0}" -f "$here/list.awk" "$work/list"
}

# --- many, one after the other --------------------------------------------------------------------------------------

# pace: returns when one more may go, at most --rate a minute since the first.
pace() {
  paced=${paced:-0}
  [ "$paced" -gt 0 ] || pace_start=$(date +%s)
  while [ $((paced * 60)) -ge $((($(date +%s) - pace_start + 1) * opt_rate)) ]; do sleep 1; done
  paced=$((paced + 1))
}

check_rate() {
  opt_rate=${opt_rate:-60}
  whole rate "$opt_rate"
  [ "$opt_rate" -gt 0 ] || wrong '--rate is 0, must be 1 or more'
}
