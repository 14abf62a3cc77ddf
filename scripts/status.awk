# Shows a lock to people, in the words of `starter status`. Reads the flattened status and the flattened description;
# the steps under way are the engine's, joined by activity id.

BEGIN { FS = "\t" }
{ v[$1] = $2 }

function dash(text) { return text == "" ? "-" : text }

# The end of a long serial is what people compare.
function short(serial) { return length(serial) <= 12 ? serial : "..." substr(serial, length(serial) - 11) }

function headline(  id) {
  id = "Mobile ID " v["mobileId"]
  if (v["outcome"] == "cancelled") return id ": cancelled. Nothing was changed."
  if (v["outcome"] == "expired") return id ": never answered, so the process has ended. Nothing was changed."
  if (v["revoked"] == "true" || v["outcome"] == "locked") return id " is locked, and its certificates are revoked."
  if (v["phase"] == "awaitingConfirmation") return id ": waits for Next or Cancel until " dash(v["deadline"]) "."
  if (v["lockedAt"] != "") return id " is locked. Its certificates are being revoked (" v["phase"] ")."
  return id ": " v["phase"] "."
}

function at_ca(c) {
  if (v[c "cannotRevoke"] != "") return "needs an operator"
  if (v[c "outcome"] == "") return "open"
  return v[c "outcome"] (v[c "reasonAtCa"] == "" ? "" : " (" v[c "reasonAtCa"] ")")
}

function proofs(c,  j, text) {
  for (j = 0; (c "proof." j ".source") in v; j++) text = text (j ? ", " : "") v[c "proof." j ".source"]
  return dash(text)
}

END {
  print headline()
  printf "  requested          %s\n  locked here        %s\n", dash(v["requestedAt"]), dash(v["lockedAt"])
  printf "  revoked at the CA  %s\n  visible to others  %s\n", dash(v["revokedAt"]), dash(v["visibleAt"])
  if (v["decidedBy.by"] v["decidedBy.userId"] != "")
    printf "  decided by         %s%s\n", v["decidedBy.userId"] == "" ? "operator " : "user " v["decidedBy.userId"] " ", v["decidedBy.by"]
  if (v["audit.number"] != "") printf "  audit record       %s\n", v["audit.number"]
  for (i = 0; ("certificates." i ".serial") in v; i++) {
    c = "certificates." i "."
    if (i == 0) printf "\n  %-16s  %-12s  %-8s  %-32s  %s\n", "CERTIFICATE", "CA", "IN IM", "AT THE CA", "PROOF"
    printf "  %-16s  %-12s  %-8s  %-32s  %s\n", short(v[c "serial"]), dash(v[c "ca"]), v[c "stateInIm"], at_ca(c), proofs(c)
  }
  for (i = 0; ("pendingActivities." i ".activityId") in v; i++) {
    a = "pendingActivities." i "."
    next_try = v[a "nextAttemptScheduleTime"] == "" ? v[a "scheduledTime"] : v[a "nextAttemptScheduleTime"]
    under_way = v[a "state"] !~ /[Ss]cheduled|SCHEDULED/ || next_try == ""
    printf "\n  step %s: try %d%s\n", v[a "activityId"], v[a "attempt"] == "" ? 1 : v[a "attempt"], under_way ? ", under way" : ", next try " next_try
    if (v[a "lastFailure.message"] != "") print "    last answer: " v[a "lastFailure.message"]
  }
  if (v["needs"] != "") print "\nNeeds an operator: " v["needs"]
  if (v["warning"] != "") print "\nWarning: " v["warning"]
}
