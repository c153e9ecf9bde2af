'use strict';
// What node serves in the lab: the files under a root, by GET and by POST, with the graceful stop that people
// write. What it is told by its environment, and the access log, are as in demo.py.

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { pipeline } = require('node:stream');

const root = process.env.L4LAB_ROOT;
const ports = process.env.L4LAB_PORT.split(',').map(Number);
const access = fs.openSync(process.env.L4LAB_ACCESS_LOG, 'a');
const KEEP_ALIVE_MS = 3600 * 1000;

function find(url) {
  try {
    const name = path.normalize('/' + decodeURIComponent(url.split('?', 1)[0])); // no way above the root
    return path.join(root, name.endsWith('/') ? name + 'index.html' : name);
  } catch {
    return root; // no name of a file
  }
}

function serve(request, response) {
  const { remoteAddress, remotePort, localAddress } = request.socket;
  response.on('close', () => {
    const asked = `"${request.method} ${request.url} HTTP/${request.httpVersion}"`;
    const who = `${remoteAddress}:${remotePort} ${localAddress}`;
    fs.writeSync(access, `${(Date.now() / 1000).toFixed(3)} ${who} ${asked} ${response.statusCode} -\n`);
  });
  request.resume(); // a body is read, and not looked at
  if (!['GET', 'POST'].includes(request.method)) {
    response.writeHead(405).end();
    return;
  }
  const file = find(request.url);
  fs.stat(file, (error, found) => {
    if (error || !found.isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': found.size });
    pipeline(fs.createReadStream(file), response, () => {}); // an error ends the connection
  });
}

const servers = ports.map((port) => {
  const server = http.createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, serve);
  return server.listen({ host: '0.0.0.0', port, backlog: 4096 });
});

process.on('SIGTERM', () => {
  for (const server of servers) {
    server.close(); // no new connections; the process ends with the last connection
    server.closeIdleConnections(); // close() does it by itself from Node 19 on
  }
});
