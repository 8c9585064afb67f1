// A provider of OpenID Connect that is certified (npm oidc-provider), for scripts/openid. It lets in whoever says a name:
// eve's address is not verified, the others are of a group of their own name. Says where it is, and runs until it is killed.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const client = {
  client_id: 'the-trail',
  // Of a native client, the port of a loopback address is not compared.
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/login/callback'],
  grant_types: ['authorization_code'],
  response_types: ['code'],
};
const clients = [
  { ...client, token_endpoint_auth_method: 'none' },
  { ...client, client_id: 'with-secret', client_secret: process.env.CLIENT_SECRET, token_endpoint_auth_method: 'client_secret_basic' },
];

async function findAccount(_, id) {
  const claims = { sub: id, email: `${id}@corp.example`, email_verified: id !== 'eve', groups: [id] };
  return { accountId: id, claims: async () => claims };
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    clients,
    findAccount,
    pkce: { required: () => true },
    scopes: ['openid', 'email', 'groups'],
  });
  server.on('request', provider.callback());
  console.log(`at ${issuer}`);
});
