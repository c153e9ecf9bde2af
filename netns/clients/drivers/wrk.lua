-- Has wrk wait between two requests of a connection, and say the sum as JSON: wrk -s wrk.lua URL -- WAIT_MS

local wait_ms

function init(arguments)
  wait_ms = tonumber(arguments[1])
end

function delay()
  return wait_ms
end

function done(summary)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "duration_s": %.3f, "http_errors": %d, "connect_errors": %d, "read_errors": %d, ' ..
    '"write_errors": %d, "timeouts": %d}\n',
    summary.requests, summary.duration / 1e6, errors.status, errors.connect, errors.read, errors.write,
    errors.timeout
  ))
end
