# Shows a list of locks, from what Temporal knows without asking them. Reads the flattened list of either program.
# Set `as` to text, json or ids, and `limit` to the most to show (0: all).
#
# temporal writes search attributes plainly; tctl writes their payloads, whose data is in base64.

BEGIN {
  FS = "\t"
  power[0] = 1; power[2] = 4; power[4] = 16 # of two; not every awk can reckon them
  alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  row = "%-20s  %-14s  %-20s  %-9s  %-20s  %s\n"
  if (as == "text") printf row, "MOBILE ID", "EXECUTION", "PHASE", "OUTCOME", "NEXT AT", "STARTED"
  if (as == "json") printf "["
}

{
  at = index($1, ".")
  number = substr($1, 1, at - 1)
  if (number != current) { show(); current = number; split("", v) }
  v[substr($1, at + 1)] = $2
}

END {
  show()
  if (as == "json") print "]"
}

function base64(text,  i, out, bits, held) {
  sub(/=+$/, "", text)
  for (i = 1; i <= length(text); i++) {
    held = held * 64 + index(alphabet, substr(text, i, 1)) - 1
    bits += 6
    if (bits >= 8) {
      bits -= 8
      out = out sprintf("%c", int(held / power[bits]))
      held %= power[bits]
    }
  }
  return out
}

function attribute(key,  text) {
  key = "searchAttributes.indexedFields." key
  if (key in v) return v[key]
  if (!((key ".data") in v)) return ""
  text = base64(v[key ".data"])
  gsub(/^"|"$/, "", text)
  return text
}

# WORKFLOW_EXECUTION_STATUS_TIMED_OUT of temporal is TimedOut of tctl.
function execution(text,  words, n, i, out) {
  if (sub(/^WORKFLOW_EXECUTION_STATUS_/, "", text) == 0) return text
  n = split(text, words, "_")
  for (i = 1; i <= n; i++) out = out substr(words[i], 1, 1) tolower(substr(words[i], 2))
  return out
}

# Whole seconds are enough for people.
function when(time) {
  if (time == "") return "-"
  sub(/\.[0-9]+/, "", time)
  return time
}

function dash(text) { return text == "" ? "-" : text }

function field(name, text) {
  if (text == "") return ""
  gsub(/[\\"]/, "\\\\&", text)
  return ",\"" name "\":\"" text "\""
}

function show(  id) {
  if (!("execution.workflowId" in v) || limit > 0 && shown >= limit) return
  id = v["execution.workflowId"]
  sub(/^MobileIDSelfServiceProcLock\//, "", id)
  if (as == "ids") print id
  if (as == "text")
    printf row, id, execution(v["status"]), dash(attribute("LockPhase")), dash(attribute("LockOutcome")), when(attribute("LockRequestedAt")), when(v["startTime"])
  if (as == "json")
    printf "%s{%s%s%s%s%s%s%s%s%s}", shown ? ",\n " : "", substr(field("mobileId", id), 2), field("process", v["type.name"]), \
      field("execution", execution(v["status"])), field("phase", attribute("LockPhase")), field("outcome", attribute("LockOutcome")), \
      field("requestedAt", attribute("LockRequestedAt")), field("startedAt", v["startTime"]), field("closedAt", v["closeTime"]), field("runId", v["execution.runId"])
  shown++
}
