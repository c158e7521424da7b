// oidc-provider 8, and an API behind it, on loopback: `node provider.mjs`.
//
// The first line on standard output is JSON: where it listens, and its clients. Whoever asks for
// an authorization is logged in as alice and has consented, with no page in between. Tests
// steer it by POST /control/NAME and read GET /control/counts. It ends when its input does.

import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { decodeJwt, exportJWK, generateKeyPair } from 'jose';

console.log = console.info = console.warn = console.error; // standard output is for one line
const { Provider, errors } = await import('oidc-provider');
const inside = (name) => import(new URL(name, import.meta.resolve('oidc-provider')));
const { default: DPoPNonces } = await inside('./helpers/dpop_nonces.js');
const { default: instance } = await inside('./helpers/weak_cache.js');
const { Storage } = await import('./storage.mjs');
const { ALGORITHMS, Api } = await import('./api.mjs');

const ACCOUNT = 'alice';
const DEFAULTS = {
  lifetime: 300, // seconds that an access token lives
  deny: false, // whether alice says no to every authorization
  provider_nonces: true, // whether a proof at the provider needs one of its nonces
  api_nonces: true, // whether a proof at the API needs one of its nonces
  api_nonce_every: 0, // so many requests after which the API changes its nonce; 0: never
  api_announces: true, // whether the API tells a new nonce in a good answer too
};
const settings = { ...DEFAULTS };
const counts = {};

function reset() {
  Object.assign(settings, DEFAULTS);
  for (const name of [
    'token_requests', // all that came to the token endpoint
    'issued', // of these: answered by a token
    'refreshes', // of these: by a refresh token
    'refresh_requests', // with grant_type=refresh_token, whatever was answered
    'refused', // answered by an error other than use_dpop_nonce and authorization_pending
    'token_nonce_refusals', // answered by use_dpop_nonce
    'token_replays', // proofs whose jti had come to the provider before
    'assertion_replays', // client assertions that were used before
    'reuses', // refresh tokens used again, which ends the login
    'revocations', // requests to the revocation endpoint that it granted
    'device_polls', // answered by authorization_pending
    'discoveries', // of the metadata, at either address
    'server_errors', // faults of the provider's own, at which a test should fail
    'api_requests', // all that came to the API
    'api_served',
    'api_refused', // 401 or 403, for whatever reason
    'api_nonce_refusals', // of these: use_dpop_nonce
    'api_replays', // of these: proofs whose jti had come to the API before
  ]) counts[name] = 0;
}
reset();

async function newKey(algorithm, kid) {
  const { privateKey } = await generateKeyPair(algorithm, { extractable: true });
  return { ...await exportJWK(privateKey), kid, alg: algorithm, use: 'sig' };
}

const publicPart = ({ kty, crv, x, y, n, e, kid, alg, use }) => (
  { kty, crv, x, y, n, e, kid, alg, use });

const GRANTS = [
  'authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code',
];
const keys = [await newKey('ES256', 'the-ec-key'), await newKey('RS256', 'the-rsa-key')];
const secret = () => randomBytes(32).toString('base64url');

// By the name that tests know them by. A `:` and a `%` show whether Basic is encoded (RFC 6749 2.3.1).
const clients = {
  basic: {
    client_id: 'basic:client', client_secret: `the secret: 100%+${secret()}`,
    token_endpoint_auth_method: 'client_secret_basic',
  },
  post: {
    client_id: 'post', client_secret: secret(),
    token_endpoint_auth_method: 'client_secret_post',
  },
  secret_jwt: {
    client_id: 'secret_jwt', client_secret: secret(),
    token_endpoint_auth_method: 'client_secret_jwt',
  },
  private_key_jwt: {
    client_id: 'private_key_jwt', jwks: { keys: keys.map(publicPart) },
    token_endpoint_auth_method: 'private_key_jwt',
  },
  public: { client_id: 'public', token_endpoint_auth_method: 'none' },
  bound: {
    client_id: 'bound', token_endpoint_auth_method: 'none', dpop_bound_access_tokens: true,
  },
};

for (const client of Object.values(clients)) {
  const confidential = client.token_endpoint_auth_method !== 'none';
  Object.assign(client, {
    application_type: 'native', // any port of loopback is good (RFC 8252 7.3)
    grant_types: confidential ? [...GRANTS, 'client_credentials'] : GRANTS,
    response_types: ['code'],
    redirect_uris: ['', 'callback'].map((path) => `http://127.0.0.1/${path}`),
  });
}

const server = createServer();
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const url = `http://127.0.0.1:${server.address().port}`;
const apiUrl = `${url}/api/`;
const otherUrl = `${url}/other/`; // a resource that is not the API
const storage = new Storage();

const provider = new Provider(url, {
  adapter: storage.adapter,
  clients: Object.values(clients),
  jwks: { keys: [await newKey('RS256', 'provider')] },
  cookies: { keys: [secret()] },
  enabledJWA: { dPoPSigningAlgValues: ALGORITHMS },
  scopes: ['openid', 'offline_access', 'read', 'write'],
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  interactions: { url: (_, interaction) => `/authorize/${interaction.uid}` },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
  expiresWithSession: () => false,
  ttl: {
    AccessToken: () => settings.lifetime,
    ClientCredentials: () => settings.lifetime,
    AuthorizationCode: 60,
    DeviceCode: 600,
    Grant: 86400,
    IdToken: 3600,
    Interaction: 600,
    RefreshToken: 86400,
    Session: 86400,
  },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    dPoP: {
      enabled: true,
      nonceSecret: randomBytes(32),
      requireNonce: () => settings.provider_nonces,
    },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => {
        if (![apiUrl, otherUrl].includes(resource)) throw new errors.InvalidTarget();
        return { scope: 'read write', audience: resource, accessTokenFormat: 'opaque' };
      },
    },
  },
});
const api = new Api(provider, apiUrl, settings, counts);
const answer = provider.callback();

provider.on('grant.success', (ctx) => {
  counts.issued += 1;
  if (ctx.oidc.params.grant_type !== 'refresh_token') return;
  counts.refresh_requests += 1;
  counts.refreshes += 1;
});
provider.on('grant.error', (ctx, error) => {
  const why = error.error_detail ?? error.error_description ?? '';
  console.error(`token endpoint: ${error.error}: ${why}`);
  if (ctx.oidc?.params?.grant_type === 'refresh_token') counts.refresh_requests += 1;
  if (error.error === 'use_dpop_nonce') counts.token_nonce_refusals += 1;
  else if (error.error === 'authorization_pending') counts.device_polls += 1;
  else counts.refused += 1;
  if (why.includes('already used')) counts.reuses += 1;
  if (why.includes('only be used once')) counts.assertion_replays += 1;
});
provider.on('server_error', (_, error) => {
  counts.server_errors += 1;
  console.error(error);
});

const jtis = new Set();

function look(request, response) {
  const path = request.url.split('?')[0];
  if (path === '/token') counts.token_requests += 1;
  if (path.startsWith('/.well-known/')) counts.discoveries += 1;
  if (path === '/token/revocation') {
    response.on('finish', () => { counts.revocations += response.statusCode === 200 ? 1 : 0; });
  }
  if (!request.headers.dpop) return;
  let jti;
  try {
    ({ jti } = decodeJwt(request.headers.dpop));
  } catch {
    return; // the provider says so
  }
  if (jtis.has(jti)) counts.token_replays += 1;
  jtis.add(jti);
}

// Alice, who is always there.
async function authorize(request, response) {
  const { params } = await provider.interactionDetails(request, response);
  if (settings.deny) {
    const denied = { error: 'access_denied', error_description: 'alice said no' };
    return provider.interactionFinished(request, response, denied);
  }
  const grant = new provider.Grant({ accountId: ACCOUNT, clientId: params.client_id });
  grant.addOIDCScope(params.scope ?? '');
  for (const resource of [params.resource ?? []].flat()) {
    grant.addResourceScope(resource, params.scope ?? '');
  }
  const result = { login: { accountId: ACCOUNT }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result);
}

const controls = {
  counts: () => {},
  reset,
  settings: (wanted) => {
    for (const name of Object.keys(wanted)) {
      if (!(name in DEFAULTS)) throw new Error(`no such setting: ${name}`);
    }
    Object.assign(settings, wanted);
  },
  expire: () => storage.expire(),
  'end-logins': () => storage.endLogins(),
  'new-api-nonce': () => api.newNonce(),
  'new-provider-nonce': () => {
    instance(provider).DPoPNonces = new DPoPNonces(randomBytes(32));
  },
};

async function control(request, response) {
  let body = '';
  for await (const piece of request) body += piece;
  controls[request.url.slice('/control/'.length)](JSON.parse(body || '{}'));
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify(counts));
}

async function serve(request, response) {
  if (request.url.startsWith('/api/')) return api.handle(request, response);
  if (request.url.startsWith('/control/')) return control(request, response);
  if (request.url.startsWith('/authorize/')) return authorize(request, response);
  look(request, response);
  return answer(request, response);
}

server.on('request', (request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    counts.server_errors += 1;
    response.statusCode = 500;
    response.end(String(error));
  });
});
server.keepAliveTimeout = 60_000; // a connection that waits is not closed under a request
process.stdin.resume().on('end', () => process.exit(0));

const known = Object.entries(clients).map(([name, client]) => [name, {
  client_id: client.client_id,
  client_secret: client.client_secret ?? null,
  keys: client.jwks ? keys : [],
}]);
process.stdout.write(`${JSON.stringify({ url, clients: Object.fromEntries(known) })}\n`);
