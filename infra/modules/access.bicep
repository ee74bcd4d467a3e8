// Who may do what. The whole of it: no other file assigns a role, except the one that Event Grid gets for its own topic.
//
// The app      rotates: it changes rows of deks, adds rows to the other tables, and reads the KEKs' public keys. It cannot
//              open a DEK, because wrapping needs the public key alone; it cannot change or delete an audit record.
// Services     read wrapped DEKs and have the vault open them; they report which versions they use.
// Operators    read every table, ask by queue message, resolve dead letters. They cannot change a key's row.

param storageName string
param vaultName string
param insightsName string
param keks string[]
param appPrincipalId string
param services string[]
param operators string[]

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var roles = {
  blobOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b' // Storage Blob Data Owner
  queueContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88' // Storage Queue Data Contributor
  queueSender: 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a' // Storage Queue Data Message Sender
  tableContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3' // Storage Table Data Contributor
  tableReader: '76199698-9eea-4c19-bc75-cec21354c6b6' // Storage Table Data Reader
  keyReader: '21090545-7ca7-4776-b22c-e363652d74d2' // Key Vault Reader
  keyWrapper: 'e147488a-f6f5-4113-8e2d-b22465e65bf6' // Key Vault Crypto Service Encryption User
  metricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb' // Monitoring Metrics Publisher
}
var insertOnlyTables = ['keys', 'audit', 'alerts', 'deadletters']

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource deks 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = {
  parent: tableService
  name: 'deks'
}

resource consumers 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = {
  parent: tableService
  name: 'consumers'
}

resource deadLetters 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = {
  parent: tableService
  name: 'deadletters'
}

resource insertOnly 'Microsoft.Storage/storageAccounts/tableServices/tables@2023-05-01' existing = [
  for table in insertOnlyTables: {
    parent: tableService
    name: table
  }
]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2023-05-01' existing = {
  parent: account
  name: 'default'
}

resource jobs 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01' existing = {
  parent: queueService
  name: 'rotation-jobs'
}

resource plans 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01' existing = {
  parent: queueService
  name: 'plan-shards'
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource kek 'Microsoft.KeyVault/vaults/keys@2023-07-01' existing = [
  for kekName in keks: {
    parent: vault
    name: kekName
  }
]

resource inserter 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  // No built-in role may insert into a table without being allowed to change and delete there too.
  // https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory: Insert Entity.
  name: guid(resourceGroup().id, 'table-inserter')
  properties: {
    roleName: 'ATP Table Inserter (${storageName})'
    description: 'Read and insert table rows; never change or delete one.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.Storage/storageAccounts/tableServices/tables/entities/read'
          'Microsoft.Storage/storageAccounts/tableServices/tables/entities/add/action'
        ]
        notDataActions: []
      }
    ]
  }
}

// The app

resource appOnBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  // The host's own: its package, its locks, its keys.
  name: guid(account.id, appPrincipalId, roles.blobOwner)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobOwner)
  }
}

resource appOnQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  // Receives, renews, deletes and sends, on each of the account's queues.
  name: guid(account.id, appPrincipalId, roles.queueContributor)
  scope: account
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueContributor)
  }
}

resource appOnDeks 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(deks.id, appPrincipalId, roles.tableContributor)
  scope: deks
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
  }
}

resource appInserts 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (table, index) in insertOnlyTables: {
    name: guid(insertOnly[index].id, appPrincipalId, inserter.id)
    scope: insertOnly[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: inserter.id
    }
  }
]

resource appOnKeks 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (kekName, index) in keks: {
    name: guid(kek[index].id, appPrincipalId, roles.keyReader)
    scope: kek[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyReader)
    }
  }
]

resource appOnInsights 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, appPrincipalId, roles.metricsPublisher)
  scope: insights
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.metricsPublisher)
  }
}

// Services

resource serviceOnDeks 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for service in services: {
    name: guid(deks.id, service, roles.tableReader)
    scope: deks
    properties: {
      principalId: service
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableReader)
    }
  }
]

resource serviceOnConsumers 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for service in services: {
    name: guid(consumers.id, service, roles.tableContributor)
    scope: consumers
    properties: {
      principalId: service
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
    }
  }
]

// Every service on every KEK. Crypto User would do, and allow to sign, to decrypt and to change the key besides.
resource serviceOnKeks 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for number in range(0, length(services) * length(keks)): {
    name: guid(kek[number % length(keks)].id, services[number / length(keks)], roles.keyWrapper)
    scope: kek[number % length(keks)]
    properties: {
      principalId: services[number / length(keks)]
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyWrapper)
    }
  }
]

// Operators

resource operatorOnTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for operator in operators: {
    name: guid(account.id, operator, roles.tableReader)
    scope: account
    properties: {
      principalId: operator
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableReader)
    }
  }
]

resource operatorOnDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for operator in operators: {
    name: guid(deadLetters.id, operator, roles.tableContributor)
    scope: deadLetters
    properties: {
      principalId: operator
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.tableContributor)
    }
  }
]

resource operatorOnJobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for operator in operators: {
    name: guid(jobs.id, operator, roles.queueSender)
    scope: jobs
    properties: {
      principalId: operator
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueSender)
    }
  }
]

resource operatorOnPlans 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for operator in operators: {
    name: guid(plans.id, operator, roles.queueSender)
    scope: plans
    properties: {
      principalId: operator
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.queueSender)
    }
  }
]
