// The storage account: tables and queues of key rotation, and the blobs that the main app's host needs.

param name string
param location string
param workspaceId string
param replication string

@description('Empty: reached over its public address.')
param endpointSubnetId string
param networkId string

// As shared/azure/wiring.py names them (a test compares).
var tables = ['deks', 'keys', 'runs', 'rotations', 'budgets', 'audit', 'checkpoints', 'consumers', 'alerts', 'deadletters']
var queues = [
  'plan-shards'
  'plan-shards-poison'
  'rotation-jobs'
  'rotation-jobs-poison'
  'kek-orders'
  'kek-orders-poison'
  'rewrap-batches'
  'rewrap-batches-poison'
  'secret-jobs'
  'secret-jobs-poison'
]
var containers = ['app-package', 'event-dead-letters']

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  kind: 'StorageV2'
  sku: {
    name: replication
  }
  properties: {
    // A shared key would open every table to its holder, with no trace of who that was.
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: empty(endpointSubnetId) ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: empty(endpointSubnetId) ? 'Allow' : 'Deny'
      bypass: 'AzureServices' // Event Grid writes its dead letters here
    }
    encryption: {
      keySource: 'Microsoft.Storage'
      requireInfrastructureEncryption: true
      services: {
        // Tables and queues have the account's key scope only if they are created with it.
        table: {
          keyType: 'Account'
        }
        queue: {
          keyType: 'Account'
        }
      }
    }
  }
}

resource keep 'Microsoft.Authorization/locks@2020-05-01' = {
  // Without the rows of table deks no ATP data can ever be read again.
  name: 'keep'
  scope: account
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds every wrapped DEK.'
  }
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2023-05-01' = {
  parent: account
  name: 'default'
}

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' = [
  for tableName in tables: {
    parent: tableService
    name: tableName
  }
]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2023-05-01' = {
  parent: account
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01' = [
  for queueName in queues: {
    parent: queueService
    name: queueName
  }
]

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: 30
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 30
    }
  }
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = [
  for containerName in containers: {
    parent: blobService
    name: containerName
    properties: {
      publicAccess: 'None'
    }
  }
]

resource tableLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  // Who touched which row, outside the reach of whoever may write the tables.
  name: 'access'
  scope: tableService
  properties: {
    workspaceId: workspaceId
    logs: [
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

resource queueLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  // The alert on poison queues counts these; there is no metric by queue.
  name: 'access'
  scope: queueService
  properties: {
    workspaceId: workspaceId
    logs: [
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

module endpoint 'private-endpoint.bicep' = [
  for service in ['blob', 'queue', 'table']: if (!empty(endpointSubnetId)) {
    name: 'storage-${service}'
    params: {
      name: '${name}-${service}'
      location: location
      targetId: account.id
      service: service
      zoneName: 'privatelink.${service}.${environment().suffixes.storage}'
      subnetId: endpointSubnetId
      networkId: networkId
    }
  }
]

output name string = account.name
// Without the slash at the end, as the app settings have them.
output tableUrl string = 'https://${account.name}.table.${environment().suffixes.storage}'
output queueUrl string = 'https://${account.name}.queue.${environment().suffixes.storage}'
