// The storage account of the evidence copy: what is appended here can be read by auditors and be changed or deleted by
// nobody, neither by the apps nor by the subscription's owners, once the policy is locked.
//
// Locking cannot be undone and is therefore no part of a deployment: until then whoever manages the account can shorten or
// remove the policy. When the copy has worked for a while, lock it by hand, then set `evidenceLocked = true` for good:
//
//   etag=$(az storage container immutability-policy show --resource-group atp --account-name <account> \
//     --container-name audit-evidence --query etag --output tsv)
//   az storage container immutability-policy lock --resource-group atp --account-name <account> \
//     --container-name audit-evidence --if-match "$etag"
//
// A locked policy can only be made longer, five times, and an account with evidence in it cannot be deleted for years.

param name string
param location string
param workspaceId string
param replication string

@description('Set once the policy is locked: from then on a deployment that describes the policy would be refused.')
param locked bool

@description('Empty: reached over its public address.')
param endpointSubnetId string
param networkId string

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  kind: 'StorageV2'
  sku: {
    name: replication
  }
  properties: {
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: empty(endpointSubnetId) ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: empty(endpointSubnetId) ? 'Allow' : 'Deny'
      bypass: 'None'
    }
    encryption: {
      keySource: 'Microsoft.Storage'
      requireInfrastructureEncryption: true
      services: {
        blob: {
          keyType: 'Account'
          enabled: true
        }
      }
    }
  }
}

resource keep 'Microsoft.Authorization/locks@2020-05-01' = {
  name: 'keep'
  scope: account
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds the evidence copy of the audit trail.'
  }
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 30
    }
  }
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobService
  name: 'audit-evidence'
  properties: {
    publicAccess: 'None'
  }
}

resource policy 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2023-05-01' = if (!locked) {
  parent: container
  name: 'default'
  properties: {
    // Seven years, two of them leap years, counted from the last append to a file.
    immutabilityPeriodSinceCreationInDays: 2557
    // An append blob may grow, by whole blocks at its end. Cannot be changed any more when the policy is locked.
    allowProtectedAppendWrites: true
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  // Who has read or tried to change the evidence.
  name: 'access'
  scope: blobService
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageRead'
        enabled: true
      }
      {
        category: 'StorageWrite'
        enabled: true
      }
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

module endpoint 'private-endpoint.bicep' = if (!empty(endpointSubnetId)) {
  name: 'evidence-blob'
  params: {
    name: '${name}-blob'
    location: location
    targetId: account.id
    service: 'blob'
    zoneName: 'privatelink.blob.${environment().suffixes.storage}'
    subnetId: endpointSubnetId
    networkId: networkId
  }
}

output name string = account.name
output containerName string = container.name
output url string = 'https://${account.name}.blob.${environment().suffixes.storage}/${container.name}'
