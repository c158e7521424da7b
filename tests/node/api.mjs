// An API behind the provider's access tokens: RFC 6750 for plain ones, RFC 9449 for bound ones.
//
// It is as strict as the RFC lets a server be: `htu` without query, each `jti` once (also
// that of a proof which was refused for its nonce), and a nonce of its own, unlike the provider's.
// The proof is looked at before the token. All below /api/write needs the scope `write`.

import { createHash, randomBytes } from 'node:crypto';
import { EmbeddedJWK, calculateJwkThumbprint, jwtVerify } from 'jose';

export const ALGORITHMS = ['ES256', 'ES384', 'ES512', 'RS256', 'PS256', 'EdDSA'];
const WINDOW = 60; // seconds that `iat` may be off

class Refused extends Error {
  constructor(scheme, error, description) {
    super(description);
    Object.assign(this, { scheme, error });
  }
}

const unproved = (description) => new Refused('DPoP', 'invalid_dpop_proof', description);

async function bodyOf(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces);
}

export class Api {
  #current;
  #previous;
  #served = 0; // since the nonce last changed
  #jtis = new Set();

  constructor(provider, url, settings, counts) {
    Object.assign(this, { provider, url, settings, counts });
    this.newNonce();
  }

  // From now on no nonce that was handed out is good.
  newNonce() {
    this.#previous = undefined;
    this.#current = randomBytes(16).toString('base64url');
    this.#served = 0;
  }

  // Changes it after so many requests. The one before stays good, so that requests under
  // way are not refused.
  #count() {
    this.#served += 1;
    if (!this.settings.api_nonce_every || this.#served < this.settings.api_nonce_every) return;
    const previous = this.#current;
    this.newNonce();
    this.#previous = previous;
  }

  async handle(request, response) {
    const body = await bodyOf(request);
    this.counts.api_requests += 1;
    const shown = {};
    try {
      const token = await this.#check(request, shown);
      this.counts.api_served += 1;
      this.#count();
      if (shown.nonce && this.settings.api_announces) this.#announce(shown, response);
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({
        account: token.accountId,
        client: token.clientId,
        scope: token.scope,
        audience: token.aud,
        key: token.jkt,
        method: request.method,
        url: request.url,
        sent: body.toString(),
        sent_sha256: createHash('sha256').update(body).digest('hex'),
      }));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#refuse(error, shown, response);
    }
  }

  #announce(shown, response) {
    if (shown.nonce !== this.#current) response.setHeader('DPoP-Nonce', this.#current);
  }

  #refuse(refused, shown, response) {
    this.counts.api_refused += 1;
    const said = [];
    if (refused.error) {
      said.push(`error="${refused.error}"`, `error_description="${refused.message}"`);
    }
    if (refused.scheme === 'DPoP') {
      said.push(`algs="${ALGORITHMS.join(' ')}"`);
    } else {
      said.push('realm="api"');
    }
    if (refused.error === 'use_dpop_nonce') {
      this.counts.api_nonce_refusals += 1;
      this.#announce(shown, response);
    }
    response.statusCode = refused.error === 'insufficient_scope' ? 403 : 401;
    response.setHeader('WWW-Authenticate', `${refused.scheme} ${said.join(', ')}`);
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify({ error: refused.error }));
  }

  async #check(request, shown) {
    const { authorization, dpop: proof } = request.headers;
    const [scheme, value] = (authorization ?? '').split(' ');
    const kind = scheme.toLowerCase();
    if (!value || !['bearer', 'dpop'].includes(kind)) throw new Refused('DPoP');
    let key;
    if (kind === 'dpop') key = await this.#prove(request, proof, value, shown);
    const token = (await this.provider.AccessToken.find(value))
      ?? (await this.provider.ClientCredentials.find(value));
    const name = kind === 'dpop' ? 'DPoP' : 'Bearer';
    if (!token) throw new Refused(name, 'invalid_token', 'unknown, ended or revoked');
    if (token.aud !== undefined && token.aud !== this.url) {
      throw new Refused(name, 'invalid_token', 'meant for another API');
    }
    if (token.jkt !== key) {
      throw new Refused('DPoP', 'invalid_token', 'bound to another key, or to none');
    }
    if (request.url.startsWith('/api/write') && !token.scopes.has('write')) {
      throw new Refused(name, 'insufficient_scope', 'the scope write is needed');
    }
    return token;
  }

  // The thumbprint of the key that signed, once all the rest is right too.
  async #prove(request, proof, token, shown) {
    if (!proof) throw unproved('no proof');
    let header;
    let claims;
    try {
      ({ protectedHeader: header, payload: claims } = await jwtVerify(proof, EmbeddedJWK, {
        algorithms: ALGORITHMS,
        typ: 'dpop+jwt',
      }));
    } catch {
      throw unproved('not a well signed proof');
    }
    if (claims.htm !== request.method) throw unproved('htm is not this method');
    const here = new URL(request.url, this.url);
    if (claims.htu !== here.origin + here.pathname) throw unproved('htu is not this URL');
    if (typeof claims.iat !== 'number' || Math.abs(Date.now() / 1000 - claims.iat) > WINDOW) {
      throw unproved('iat is not now');
    }
    if (claims.ath !== createHash('sha256').update(token).digest('base64url')) {
      throw unproved('ath is not of this token');
    }
    if (typeof claims.jti !== 'string' || !claims.jti) throw unproved('no jti');
    if (this.#jtis.has(claims.jti)) {
      this.counts.api_replays += 1;
      throw unproved('this jti was used before');
    }
    this.#jtis.add(claims.jti);
    if (this.settings.api_nonces) {
      shown.nonce = claims.nonce ?? 'none';
      if (!claims.nonce || ![this.#current, this.#previous].includes(claims.nonce)) {
        throw new Refused('DPoP', 'use_dpop_nonce', 'a nonce of this API is needed');
      }
    }
    return calculateJwkThumbprint(header.jwk);
  }
}
