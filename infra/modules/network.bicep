// A virtual network with one subnet for each app's outgoing traffic and one for the private endpoints they reach.

param prefix string
param location string

@description('Peer it with the networks from which operators and ATP services reach storage and vault.')
param addressRange string = '10.90.0.0/24'

resource closed 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  // The apps only dial out and endpoints only answer the network itself, so nothing may come in from elsewhere.
  name: '${prefix}-rotation'
  location: location
  properties: {
    securityRules: [
      {
        name: 'deny-internet'
        properties: {
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: '${prefix}-rotation'
  location: location
  properties: {
    addressSpace: {
      addressPrefixes: [addressRange]
    }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: cidrSubnet(addressRange, 26, 0)
          networkSecurityGroup: {
            id: closed.id
          }
          delegations: [
            {
              // What Flex Consumption requires of its subnet.
              name: 'flex'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressRange, 26, 1)
          networkSecurityGroup: {
            id: closed.id
          }
          privateEndpointNetworkPolicies: 'Enabled'
        }
      }
      {
        name: 'audit'
        properties: {
          addressPrefix: cidrSubnet(addressRange, 26, 2)
          networkSecurityGroup: {
            id: closed.id
          }
          delegations: [
            {
              name: 'flex'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
    ]
  }
}

output networkId string = network.id
output appSubnetId string = network.properties.subnets[0].id
output auditSubnetId string = network.properties.subnets[2].id
output endpointSubnetId string = network.properties.subnets[1].id
