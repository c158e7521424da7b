// Where the provider keeps what it issued: in memory, and nothing is ever thrown out.
// (Its own memory store forgets after 1000 entries, which a storm reaches.)

import { errors } from 'oidc-provider';

const LOGINS = ['Grant', 'RefreshToken', 'AccessToken', 'DeviceCode', 'AuthorizationCode'];

export class Storage {
  #models = new Map();

  // What the provider calls for each of its models.
  adapter = (model) => {
    const rows = new Map();
    this.#models.set(model, rows);
    const by = (name) => async (value) => [...rows.values()].find((row) => row[name] === value);
    return {
      upsert: async (id, row) => { rows.set(id, row); },
      find: async (id) => rows.get(id),
      findByUid: by('uid'),
      findByUserCode: by('userCode'),
      destroy: async (id) => { rows.delete(id); },
      consume: async (id) => {
        const row = rows.get(id);
        // Two that came at once may both have found it unused; the second is a reuse.
        if (row.consumed) {
          for (const name of LOGINS) this.#endGrant(name, row.grantId);
          throw new errors.InvalidGrant('already used, at once');
        }
        row.consumed = Math.floor(Date.now() / 1000);
      },
      revokeByGrantId: async (grantId) => this.#endGrant(model, grantId),
    };
  };

  #endGrant(model, grantId) {
    const rows = this.#models.get(model) ?? new Map();
    for (const [id, row] of rows) if (row.grantId === grantId) rows.delete(id);
  }

  expire() {
    for (const model of ['AccessToken', 'ClientCredentials']) this.#models.get(model)?.clear();
  }

  endLogins() {
    for (const model of LOGINS) this.#models.get(model)?.clear();
  }
}
