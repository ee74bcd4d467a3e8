// The vault, the KEKs in it, and in the first one the key that signs checkpoints of the audit trail.

param name string
param location string
param keks string[]
param kekBits int
param kekExpires int

@description('Name of the key that signs checkpoints. Empty: none in this vault.')
param signingKeyName string
param workspaceId string

@description('Empty: reached over its public address.')
param endpointSubnetId string
param networkId string

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'premium' // HSM keys
    }
    enableRbacAuthorization: true
    // A KEK that is gone takes all ATP data with it: 90 days to notice, and nobody can shorten them.
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: empty(endpointSubnetId) ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: empty(endpointSubnetId) ? 'Allow' : 'Deny'
      bypass: 'AzureServices'
    }
  }
}

// Resource Manager only ever creates a key: a later deployment makes no version and changes none. The versions after the
// first are made by the app, for one rotation each.
resource kek 'Microsoft.KeyVault/vaults/keys@2023-07-01' = [
  for kekName in keks: {
    parent: vault
    name: kekName
    properties: {
      kty: 'RSA-HSM'
      keySize: kekBits
      keyOps: ['wrapKey', 'unwrapKey']
      attributes: {
        enabled: true
        exportable: false
        exp: kekExpires
      }
      // The vault only announces. Were it to make versions by itself, the app would rotate to each of them; but when a
      // KEK rotates is for rotation/catalog.toml to say.
      rotationPolicy: {
        attributes: {
          expiryTime: 'P2Y'
        }
        lifetimeActions: [
          {
            trigger: {
              timeBeforeExpiry: 'P30D'
            }
            action: {
              type: 'notify'
            }
          }
        ]
      }
    }
  }
]

resource signingKey 'Microsoft.KeyVault/vaults/keys@2023-07-01' = if (!empty(signingKeyName)) {
  parent: vault
  name: empty(signingKeyName) ? 'none' : signingKeyName // a name must not be empty, even of what is not made
  properties: {
    kty: 'EC-HSM'
    curveName: 'P-256'
    keyOps: ['sign', 'verify']
    attributes: {
      enabled: true
      exportable: false
    }
    // As often as rotation/catalog.toml says the vault makes a version by itself, and the audit app signs with the newest
    // one. None expires: what an old version has signed must be checked for as long as the evidence is kept.
    rotationPolicy: {
      lifetimeActions: [
        {
          trigger: {
            timeAfterCreate: 'P90D'
          }
          action: {
            type: 'rotate'
          }
        }
      ]
    }
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  // Every unwrap, with who asked: what an investigation after a leak begins with.
  name: 'audit'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'AuditEvent'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

module endpoint 'private-endpoint.bicep' = if (!empty(endpointSubnetId)) {
  name: 'endpoint-${name}'
  params: {
    name: '${name}-vault'
    location: location
    targetId: vault.id
    service: 'vault'
    zoneName: 'privatelink.vaultcore.azure.net'
    subnetId: endpointSubnetId
    networkId: networkId
  }
}

// Without the slash at the end, as key ids begin.
output url string = 'https://${vault.name}${environment().suffixes.keyvaultDns}'
