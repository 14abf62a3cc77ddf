# Flattens JSON, so that the scripts need no jq: one line per value, its path, a tab, and the value.
#
#   {"certificates": [{"serial": "1f"}]}   becomes   certificates.0.serial<TAB>1f
#
# Values are shown to people on a terminal, so control characters in strings become blanks. A JSON string holds no raw
# line break, so tokens never span lines. Commas are skipped wherever they stand: tctl leaves one at the end of a list.
# Run it with LC_ALL=C, for bytes. Ends with 1 on what is no JSON.

function label(  key) {
  if (depth == 0) return ""
  if (kind[depth] == "[") key = members[depth]++
  else { key = name[depth]; named[depth] = 0 }
  return prefix[depth] == "" ? key : prefix[depth] "." key
}

function enter(bracket,  path) {
  path = label()
  depth++
  kind[depth] = bracket
  prefix[depth] = path
  members[depth] = 0
  named[depth] = 0
}

function hex(digits,  i, n) {
  for (i = 1; i <= length(digits); i++) n = n * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
  return n
}

function utf8(code) {
  if (code < 32 || code >= 127 && code < 160) return " "
  if (code < 128) return sprintf("%c", code)
  if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
  if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
  return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}

function decode(s,  out, at, c, code, low) {
  while ((at = index(s, "\\")) > 0) {
    out = out substr(s, 1, at - 1)
    c = substr(s, at + 1, 1)
    if (c != "u") {
      out = out (index("bfnrt", c) ? " " : c)
      s = substr(s, at + 2)
      continue
    }
    code = hex(substr(s, at + 2, 4))
    s = substr(s, at + 6)
    if (code >= 55296 && code < 56320 && substr(s, 1, 2) == "\\u") {
      low = hex(substr(s, 3, 4))
      code = 65536 + (code - 55296) * 1024 + low - 56320
      s = substr(s, 7)
    }
    out = out utf8(code)
  }
  out = out s
  gsub(/[\001-\037\177]/, " ", out)
  gsub(/\302[\200-\237]/, " ", out)
  return out
}

{
  rest = $0
  while (1) {
    sub(/^[ \t\r,:]+/, "", rest)
    if (rest == "") break
    c = substr(rest, 1, 1)
    if (c == "{" || c == "[") { enter(c); rest = substr(rest, 2); seen = 1; continue }
    if (c == "}" || c == "]") {
      if (depth == 0 || kind[depth] != (c == "}" ? "{" : "[")) exit bad = 1
      depth--
      rest = substr(rest, 2)
      continue
    }
    if (c == "\"") {
      if (!match(rest, /^"([^"\\]|\\.)*"/)) exit bad = 1
      token = decode(substr(rest, 2, RLENGTH - 2))
      rest = substr(rest, RLENGTH + 1)
      if (depth > 0 && kind[depth] == "{" && !named[depth]) { name[depth] = token; named[depth] = 1; continue }
    } else {
      if (!match(rest, /^[-+.0-9A-Za-z]+/)) exit bad = 1
      token = substr(rest, 1, RLENGTH)
      rest = substr(rest, RLENGTH + 1)
    }
    seen = 1
    print label() "\t" token
  }
}

END { if (bad || depth != 0 || !seen) exit 1 }
