# The steps under way as JSON, from a flattened description, in the shape of `starter -o json status`.

BEGIN { FS = "\t" }
{ v[$1] = $2 }

function quoted(text) {
  gsub(/[\\"]/, "\\\\&", text)
  return "\"" text "\""
}

# PENDING_ACTIVITY_STATE_CANCEL_REQUESTED of temporal is CancelRequested of tctl.
function state(text,  words, n, i, out) {
  if (sub(/^PENDING_ACTIVITY_STATE_/, "", text) == 0) return text
  n = split(text, words, "_")
  for (i = 1; i <= n; i++) out = out substr(words[i], 1, 1) tolower(substr(words[i], 2))
  return out
}

END {
  for (i = 0; ("pendingActivities." i ".activityId") in v; i++) {
    a = "pendingActivities." i "."
    next_try = v[a "nextAttemptScheduleTime"] == "" ? v[a "scheduledTime"] : v[a "nextAttemptScheduleTime"]
    printf "%s{\"id\":%s,\"state\":%s,\"attempt\":%d", i ? "," : "", quoted(v[a "activityId"]), quoted(state(v[a "state"])), v[a "attempt"] == "" ? 1 : v[a "attempt"]
    if (v[a "lastFailure.message"] != "") printf ",\"lastError\":%s", quoted(v[a "lastFailure.message"])
    if (next_try != "") printf ",\"nextTry\":%s", quoted(next_try)
    printf "}"
  }
}
